"""Where metrics go: a JSON lines file, TensorBoard events, Weights & Biases.

A row is a flat mapping {"stage": str, "step": int, "kind": str, metric: number, ...}. Kinds are
"train", "heldout" and "timing"; a step counts from 1 within its stage (held-out rows may have 0).
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rljax.errors import unknown_name
from rljax.reporting import files

ResumeFrom = Mapping[str, int] | Callable[[dict], bool] | None
"""Stage -> last step whose rows stay (stages not named keep none); or a predicate on a row that
is True for rows that stay; or None, which keeps every row."""

KEYS = ("stage", "step", "kind")


class MetricWriter(Protocol):
    """Takes rows of metrics, in the order in which they arise."""

    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class JsonlWriter:
    """Appends rows to a JSON lines file, each one flushed before `write` returns.

    Floats are written so that reading them gives the same bits. Lines that stay on resume keep
    their bytes, so that an interrupted run's file equals an uninterrupted one's.
    """

    def __init__(self, path: Path | str, resume_from: ResumeFrom = None) -> None:
        """Drops the rows that come after the checkpoint, atomically, then opens for appending.

        Args:
            path: the file; made with its folder when missing.
            resume_from: which rows stay, see `ResumeFrom`. A half-written last line never does.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._bytes, self._hash = 0, hashlib.sha256()  # of all that is in the file
        if self.path.exists():
            keep = files.row_filter(resume_from)
            kept = [line + "\n" for line, row in files.read_lines(self.path) if keep(row)]
            files.write_text_atomic(self.path, "".join(kept))
            self._count("".join(kept))
        self._file = open(self.path, "a", encoding="utf-8", newline="\n")

    def write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(files.plain(row), allow_nan=False) + "\n"
        self._file.write(line)
        self._file.flush()
        self._count(line)

    def digest(self) -> dict[str, Any]:
        """SHA-256 and size of what is in the file now."""
        return {"sha256": self._hash.hexdigest(), "bytes": self._bytes}

    def _count(self, text: str) -> None:
        content = text.encode("utf-8")
        self._hash.update(content)
        self._bytes += len(content)

    def close(self) -> None:
        self._file.close()


class WorkdirWriter:
    """metrics.jsonl for reproducible numbers, timing.jsonl for rows of kind "timing"."""

    def __init__(self, workdir: Path | str, resume_from: ResumeFrom = None) -> None:
        workdir = Path(workdir)
        self._metrics = JsonlWriter(workdir / files.METRICS_FILE, resume_from)
        self._timing = JsonlWriter(workdir / files.TIMING_FILE, resume_from)

    def write(self, row: Mapping[str, Any]) -> None:
        (self._timing if row.get("kind") == "timing" else self._metrics).write(row)

    def digest(self) -> dict[str, Any]:
        """SHA-256 and size of metrics.jsonl as it is now."""
        return self._metrics.digest()

    def close(self) -> None:
        self._metrics.close()
        self._timing.close()


class NoFiles:
    """In the place of `WorkdirWriter` in processes whose rows another one writes."""

    def write(self, row: Mapping[str, Any]) -> None:
        pass

    def digest(self) -> dict[str, Any]:
        """Nothing: the process that writes says it."""
        return {}

    def close(self) -> None:
        pass


class GlobalStep:
    """Numbers the steps of all stages in one sequence, for backends that know no stages.

    A stage starts where the one before it ended: after `warmup` ran to step 200, `grpo` step 1
    is 201. `rows` are those that a resumed run has kept.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._offsets: dict[str, int] = {}
        self.last = 0
        for row in rows:
            self(row)

    def __call__(self, row: Mapping[str, Any]) -> int:
        offset = self._offsets.setdefault(row["stage"], self.last)
        step = offset + int(row["step"])
        self.last = max(self.last, step)
        return step


def tagged_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The row's numbers as stage/metric; other kinds than "train" come between the two."""
    kind = row.get("kind", "train")
    prefix = row["stage"] if kind == "train" else f"{row['stage']}/{kind}"
    found = {}
    for name, value in row.items():
        value = None if name in KEYS else files.number(files.plain(value))
        if value is not None:
            found[f"{prefix}/{name}"] = value
    return found


class TensorBoardWriter:
    """TensorBoard scalars with the tags of `tagged_values` over one growing step."""

    def __init__(self, dir: Path | str, kept_rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Opens a new event file in `dir`.

        Args:
            dir: folder of the event files.
            kept_rows: metric rows of an earlier process that stay valid; events that it wrote
                for later steps (all its events, if no row stays) are declared void, which
                TensorBoard honours.
        """
        # Here, not at the top: the reports are also drawn where only numpy is installed.
        from tensorboardX import SummaryWriter

        # A mean of nothing is NaN, and is drawn as such: no reason to warn at every row.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
        self._step = GlobalStep(kept_rows)
        earlier = len(list(Path(dir).glob("events.*")))
        # A run that was killed before its first checkpoint has events but no rows to keep.
        purge_step = None if not earlier else self._step.last + 1 if kept_rows else 0
        # Files are named by the second: a process that starts at once must not overwrite one.
        suffix = f".{earlier}"
        self._writer = SummaryWriter(str(dir), purge_step=purge_step, filename_suffix=suffix)

    def write(self, row: Mapping[str, Any]) -> None:
        step = self._step(row)
        for tag, value in tagged_values(row).items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self._writer.close()


class WandbWriter:
    """A Weights & Biases run whose id stays in the workdir, so that a resumed run continues it."""

    ID_FILE = "wandb_id.txt"

    def __init__(
        self,
        workdir: Path | str,
        kept_rows: Sequence[Mapping[str, Any]] = (),
        *,
        project: str = "rljax",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ValueError(
                "The metric writer 'wandb' needs the package wandb, which is not installed: run "
                "pip install -e '.[wandb]', or take 'wandb' out of config.reporting.writers."
            ) from error
        workdir = Path(workdir)
        id_path = workdir / self.ID_FILE
        if not id_path.exists():
            files.write_text_atomic(id_path, uuid.uuid4().hex[:8] + "\n")
        self._step = GlobalStep(kept_rows)
        self._run = wandb.init(
            project=project,
            name=workdir.name,
            dir=str(workdir),
            id=id_path.read_text().strip(),
            resume="allow",
            config=dict(config or {}),
        )
        # Its own step only ever grows and rows behind it are dropped; a resumed run repeats some.
        self._run.define_metric("*", step_metric="global_step")

    def write(self, row: Mapping[str, Any]) -> None:
        self._run.log({"global_step": self._step(row), **tagged_values(row)})

    def close(self) -> None:
        self._run.finish()


class MultiWriter:
    """Hands every row to several writers, the one of metrics.jsonl first."""

    def __init__(
        self, files_writer: WorkdirWriter | NoFiles, others: Sequence[MetricWriter] = ()
    ) -> None:
        self.files_writer, self.writers = files_writer, (files_writer, *others)

    def digest(self) -> dict[str, Any]:
        """SHA-256 and size of metrics.jsonl as it is now."""
        return self.files_writer.digest()

    def write(self, row: Mapping[str, Any]) -> None:
        for writer in self.writers:
            writer.write(row)

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def __enter__(self) -> MultiWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


WRITERS = ("jsonl", "tensorboard", "wandb")


def check_names(names: Sequence[str]) -> None:
    """Raises a ValueError unless `names` are known writers, "jsonl" among them."""
    for name in names:
        if name not in WRITERS:
            raise unknown_name("metric writer", name, WRITERS, "config.reporting.writers")
    if "jsonl" not in names:
        raise ValueError(
            f"The metric writers {tuple(names)!r} lack 'jsonl', which the report and the resuming "
            "of a run read (config.reporting.writers)."
        )


def open_writers(
    workdir: Path | str,
    names: Sequence[str] = ("jsonl", "tensorboard"),
    *,
    resume_from: ResumeFrom = None,
    config: Mapping[str, Any] | None = None,
    project: str = "rljax",
) -> MultiWriter:
    """Opens the named writers of a run, all cut back to the same rows.

    Args:
        workdir: the run's folder; made when missing.
        names: out of `WRITERS`; "jsonl" must be among them.
        resume_from: which rows of an earlier process stay, see `ResumeFrom`. Pass {} when the
            run starts over, {"warmup": 200, "grpo": 30} when it continues after grpo's step 30.
        config: the resolved config, for the backends that keep one.
        project: the Weights & Biases project that the run belongs to.

    Raises:
        ValueError: for an unknown name, a missing "jsonl", or a package that is not installed.
    """
    check_names(names)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    first = WorkdirWriter(workdir, resume_from)
    others: list[MetricWriter] = []
    kept_rows = files.read_rows(workdir / files.METRICS_FILE)
    if "tensorboard" in names:
        others.append(TensorBoardWriter(workdir / "tensorboard", kept_rows))
    if "wandb" in names:
        others.append(WandbWriter(workdir, kept_rows, project=project, config=config))
    return MultiWriter(first, others)
