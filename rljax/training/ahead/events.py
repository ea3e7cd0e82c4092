"""WORKDIR/events.jsonl: what was drawn with which weights, and what was trained when.

    {"event": "drawn", "stage": "grpo", "step": 7, "weights": [5], "versions": [10, 10],
     "prompts": [31, 4], "samples": "5f0c..."}
    {"event": "trained", "stage": "grpo", "step": 7, "version": 12, "samples": "5f0c..."}

`weights` are the steps after which the weights of each piece were taken, `versions` are the updates
that oldest and newest token have seen, `samples` are hex digits of the SHA-256 of what was drawn.
Everything else follows from the config, so the log repeats the run:
`launch/train.py --replay=WORKDIR`.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.errors import StoppedError, blamed
from rljax.reporting.files import CONFIG_FILE, SUMMARY_FILE, read_json, read_rows
from rljax.reporting.writers import JsonlWriter
from rljax.training.collect.experience import Experience
from rljax.training.collect.rollouts import Samples
from rljax.training.run.digests import PARAMETERS

EVENTS_FILE = "events.jsonl"
DIGITS = 16  # of a digest: enough to tell samples apart


class Events:
    """The event log of a stage; several threads write."""

    def __init__(
        self,
        workdir: Path,
        stage: str,
        earlier: list[str],
        *,
        done: int,
        drawn: int,
        writes: bool = True,
    ) -> None:
        """Opens the log and drops what a killed process wrote after its last checkpoint.

        Args:
            workdir: of the run.
            stage: whose events are written.
            earlier: stages before it, whose events stay.
            done: steps that are trained.
            drawn: the last step in the queue.
            writes: whether this process does; several draw and train the same.
        """
        last = {"trained": done, "drawn": drawn}

        def stays(row: Mapping[str, Any]) -> bool:
            if row["stage"] != stage:
                return row["stage"] in earlier
            return row["step"] <= last[row["event"]]

        self.stage, self._lock = stage, threading.Lock()
        self._writer = JsonlWriter(workdir / EVENTS_FILE, stays) if writes else None

    def drawn(self, step: int, weights: Sequence[int], experience: Experience) -> None:
        """A step's samples are in the queue, drawn with the weights of so many pieces."""
        samples = experience.samples
        versions = samples.versions[np.asarray(samples.rollouts.mask)]
        self._write(
            event="drawn",
            step=step,
            weights=list(weights),
            versions=[int(versions.min(initial=2**31 - 1)), int(versions.max(initial=0))],
            prompts=[record["id"] for record in samples.records],
            samples=samples_digest(samples),
        )

    def trained(self, step: int, version: int, experience: Experience) -> None:
        """A step's samples are handed to the trainer, whose policy has seen `version` updates."""
        digest = samples_digest(experience.samples)
        self._write(event="trained", step=step, version=version, samples=digest)

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, event: str, step: int, **values: Any) -> None:
        if self._writer is None:
            return
        with self._lock:
            self._writer.write({"event": event, "stage": self.stage, "step": step, **values})


def samples_digest(samples: Samples) -> str:
    """The first hex digits of the SHA-256 of a step's tokens and log-probabilities."""
    digest, mask = hashlib.sha256(), np.asarray(samples.rollouts.mask)
    for array in (mask, samples.rollouts.tokens, samples.rollouts.logprobs):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:DIGITS]


class Replay:
    """A run whose event log another run repeats."""

    def __init__(self, workdir: Path) -> None:
        """Reads config, log and summary of a run.

        Raises:
            ValueError: if the folder holds no run with an event log.
        """
        self.workdir = Path(workdir)
        path = self.workdir / EVENTS_FILE
        if not self.workdir.is_dir():
            raise ValueError(f"There is no folder {self.workdir} (--replay).")
        if not path.is_file() or not (self.workdir / CONFIG_FILE).is_file():
            raise ValueError(
                f"{self.workdir} has no {EVENTS_FILE} with a {CONFIG_FILE}: only a run with "
                "config.asynchronous.max_staleness or sampler_devices writes one (--replay)."
            )
        with blamed(f"{path} cannot be read", ValueError, OSError, field="--replay"):
            self.rows = read_rows(path)
        self.config = read_json(self.workdir / CONFIG_FILE)

    def weights(self, stage: str, steps: int) -> dict[int, list[int]]:
        """For each step of a stage, the steps after which the weights of its pieces were taken.

        Raises:
            ValueError: if steps are missing, as of a run that did not end.
        """
        found = {
            row["step"]: row["weights"]
            for row in self.rows
            if row["stage"] == stage and row["event"] == "drawn"
        }
        missing = [step for step in range(1, steps + 1) if step not in found]
        if missing:
            raise ValueError(
                f"{self.workdir / EVENTS_FILE} does not say with which weights step {missing[0]} "
                f"of stage {stage!r} was drawn: only a run that has ended can be replayed "
                "(--replay)."
            )
        return found

    def digest(self, stage: str, step: int) -> str:
        """What was drawn in a step."""
        return next(
            row["samples"]
            for row in self.rows
            if (row["event"], row["stage"], row["step"]) == ("drawn", stage, step)
        )

    def compared(self, parameters: str) -> str:
        """Whether a run has ended with the parameters of this one, in a line.

        Args:
            parameters: `parameters_sha256` of the run that repeated it.

        Raises:
            StoppedError: if it has ended with others.
        """
        own = read_json(self.workdir / SUMMARY_FILE).get(PARAMETERS)
        if own is None:
            return f"replay: {self.workdir} has no summary to compare with; parameters {parameters}"
        if own != parameters:
            raise StoppedError(
                f"The replay of {self.workdir} has ended with other parameters: {parameters} "
                f"instead of {own} (summary.json of both)."
            )
        return f"replay: the same parameters as {self.workdir}, {parameters}"
