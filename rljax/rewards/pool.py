"""Scoring in worker processes, with a time limit for every sample."""

import contextlib
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax.errors import StoppedError
from rljax.rewards.compose import Composition
from rljax.rewards.worker import Outcome, Sample, Timer, score_sample

FIELD = "config.scoring"

# Importing a verifier may take long on a busy machine; it never counts against a sample.
_START_SECONDS = 300.0
# The worker ends itself first (timer, then CPU limit); this is for one that sleeps inside C code.
_KILL_GRACE_SECONDS = 3.0
_MAX_CHUNK = 64
_WORKER_PROGRAM = "from rljax.rewards.worker import main; main()"


class ScoringError(StoppedError):
    """Too large a share of a step's samples could not be scored, or no worker could start."""


class Scores(NamedTuple):
    """Results of N samples, in the order given.

    Attributes:
        total: [N] f32, the composed reward; the failure reward where `failed`.
        parts: label -> [N] f32, each member's value before gates and weights; 0 where `failed`.
        failed: [N] bool, the verifier raised, hung, died or returned no finite number.
        first_error: text of the first failure, or None.
    """

    total: np.ndarray
    parts: dict[str, np.ndarray]
    failed: np.ndarray
    first_error: str | None

    @property
    def correct(self) -> np.ndarray:
        """[N] bool, the primary reward equals 1.0."""
        return (next(iter(self.parts.values())) == 1.0) & ~self.failed


class Scorer:
    """Scores completions in a pool of processes; a context manager.

    Workers start in the background, so the constructor returns at once. Results do not depend on
    the number of workers.

    Args:
        spec: the composition, as for `rljax.rewards.compose.Composition`.
        workers: processes; 0 scores in this process (timed only in its main thread, and unable to
            stop a single long C call).
        timeout_seconds: limit for one sample, all its rewards together.
        failure_reward: total of a sample whose verifier failed.
        max_failed_share: largest share of failed samples in one call that is tolerated.
        memory_gib: address space of one worker.

    Raises:
        ValueError: an invalid composition or limit.
    """

    def __init__(
        self,
        spec: Iterable[Any],
        *,
        workers: int = 2,
        timeout_seconds: float = 5.0,
        failure_reward: float = 0.0,
        max_failed_share: float = 0.5,
        memory_gib: float = 8.0,
    ) -> None:
        _check_limits(workers, timeout_seconds, failure_reward, max_failed_share, memory_gib)
        self.composition = Composition(spec)
        self.timeout_seconds = float(timeout_seconds)
        self.failure_reward = float(failure_reward)
        self.max_failed_share = float(max_failed_share)
        self._chunks: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        setup = (self.composition.portable(), self.timeout_seconds, float(memory_gib))
        self._workers = [_Worker(self._chunks, setup) for _ in range(workers)]

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; may be called twice."""
        workers, self._workers = self._workers, []
        for _ in workers:
            self._chunks.put(None)
        for worker in workers:
            worker.close()

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        references: Sequence[Any],
        completion_tokens: Sequence[int] | None = None,
    ) -> Scores:
        """Scores N samples; safe to call from several threads.

        Args:
            prompts: N texts.
            completions: N texts.
            references: N JSON-able references.
            completion_tokens: N token counts; needed if a reward counts tokens.

        Raises:
            ValueError: lengths differ, or token counts are needed and missing.
            ScoringError: too many samples failed, or the workers cannot start.
        """
        samples = self._samples(prompts, completions, references, completion_tokens)
        if not samples:
            outcomes = []
        elif self._workers:
            outcomes = self._in_workers(samples)
        else:
            outcomes = self._in_process(samples)
        scores = self._collect(outcomes)
        share = float(scores.failed.mean()) if samples else 0.0
        if share > self.max_failed_share:
            raise ScoringError(
                f"{int(scores.failed.sum())} of {len(samples)} samples could not be scored: share "
                f"{share:.3f}, allowed {self.max_failed_share:.3f} ({FIELD}.max_failed_share). "
                f"First failure:\n{scores.first_error}"
            )
        return scores

    def _samples(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        references: Sequence[Any],
        completion_tokens: Sequence[int] | None,
    ) -> list[Sample]:
        if completion_tokens is None:
            if self.composition.needs_token_counts:
                raise ValueError(
                    "A reward of this composition counts tokens; pass completion_tokens."
                )
            counts: Sequence[int | None] = [None] * len(prompts)
        else:
            counts = [int(count) for count in completion_tokens]
        sizes = [len(prompts), len(completions), len(references), len(counts)]
        if len(set(sizes)) != 1:
            raise ValueError(
                f"Prompts, completions, references and token counts differ in number: {sizes}."
            )
        return list(map(Sample, prompts, completions, references, counts))

    def _in_process(self, samples: list[Sample]) -> list[Outcome]:
        timer = Timer(self.timeout_seconds, kill=False)
        with timer.installed():
            return [score_sample(self.composition, sample, timer) for sample in samples]

    def _in_workers(self, samples: list[Sample]) -> list[Outcome]:
        # Four chunks a worker even out verifiers of unequal cost.
        size = max(1, min(_MAX_CHUNK, -(-len(samples) // (4 * len(self._workers)))))
        chunks = [_Chunk(samples[i : i + size]) for i in range(0, len(samples), size)]
        for chunk in chunks:
            self._chunks.put(chunk)
        for chunk in chunks:
            chunk.done.wait()
        for chunk in chunks:
            if chunk.error is not None:
                raise ScoringError(chunk.error)
        return [outcome for chunk in chunks for outcome in chunk.outcomes]

    def _collect(self, outcomes: list[Outcome]) -> Scores:
        count, labels = len(outcomes), self.composition.labels
        total = np.full(count, self.failure_reward, np.float32)
        values = np.zeros((len(labels), count), np.float32)
        failed = np.zeros(count, bool)
        first_error = None
        for place, outcome in enumerate(outcomes):
            if outcome.values is None:
                failed[place] = True
                first_error = first_error or outcome.error
            else:
                total[place] = self.composition.total(outcome.values)
                values[:, place] = outcome.values
        return Scores(total, dict(zip(labels, values, strict=True)), failed, first_error)


class _Chunk:
    """Samples for one worker, and where their outcomes go."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.outcomes: list[Outcome] = []
        self.error: str | None = None
        self.done = threading.Event()


class _Worker:
    """A process, and the thread that feeds it.

    The process answers sample by sample. One that stays silent beyond the time limit, or dies, has
    failed exactly the sample it was at; the rest of the chunk goes to its successor.
    """

    def __init__(self, chunks: "queue.SimpleQueue[_Chunk | None]", setup: tuple[Any, ...]) -> None:
        self._chunks, self._setup = chunks, setup
        self._silence_seconds = setup[1] + _KILL_GRACE_SECONDS
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lock = threading.Lock()  # a process is started, or the worker closed: never both
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._closing = True
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        error = self._start()
        while (chunk := self._chunks.get()) is not None:
            try:
                while error is None and len(chunk.outcomes) < len(chunk.samples):
                    failure = self._feed(chunk)
                    if failure is not None:
                        chunk.outcomes.append(Outcome(None, failure))
                        self._stop()
                        error = self._start()
                chunk.error = error
            except Exception as problem:  # the caller waits on this chunk: it must hear of it
                chunk.error = f"The scoring thread failed: {problem!r}"
            finally:
                chunk.done.set()
        self._stop()

    def _feed(self, chunk: _Chunk) -> str | None:
        """Sends what is open; returns why the worker failed its next sample, or None."""
        try:
            self._connection.send(
                [tuple(sample) for sample in chunk.samples[len(chunk.outcomes) :]]
            )
            while len(chunk.outcomes) < len(chunk.samples):
                if not self._connection.poll(self._silence_seconds):
                    return f"The reward took longer than {self._setup[1]} s and was killed."
                chunk.outcomes.append(self._connection.recv())
        except (EOFError, OSError):
            self._process.kill()
            return (
                f"The worker process died while scoring (exit status {self._process.wait()}): the "
                f"reward ended it, used too much memory, or ran past {self._setup[1]} s in C code."
            )
        return None

    def _start(self) -> str | None:
        """Starts a process and waits until it is ready; returns the reason if it is not."""
        ours, theirs = multiprocessing.Pipe()
        with self._lock:
            if self._closing:
                return "The scorer is closed."
            self._connection = ours
            self._process = subprocess.Popen(
                [sys.executable, "-c", _WORKER_PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        theirs.close()
        reason = f"no answer in {_START_SECONDS} s"
        with contextlib.suppress(EOFError, OSError):
            ours.send(self._setup)
            if ours.poll(_START_SECONDS):
                reason = ours.recv()
                if reason is None:
                    return None
        self._process.kill()
        return f"A scoring worker did not start (exit {self._process.wait()}): {reason}"

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()


def _environment() -> dict[str, str]:
    """The trainer's environment, changed: every worker computes alike and takes one core."""
    root = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
        "PYTHONHASHSEED": "0",  # some verifiers iterate over sets of strings
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _check_limits(
    workers: int,
    timeout_seconds: float,
    failure_reward: float,
    max_failed_share: float,
    memory_gib: float,
) -> None:
    for name, value, valid, allowed in (
        ("workers", workers, workers >= 0 and workers == int(workers), "a whole number >= 0"),
        ("timeout_seconds", timeout_seconds, 0 < timeout_seconds < 1e6, "> 0"),
        ("failure_reward", failure_reward, np.isfinite(failure_reward), "a finite number"),
        ("max_failed_share", max_failed_share, 0 <= max_failed_share <= 1, "in [0, 1]"),
        ("memory_gib", memory_gib, 0.5 <= memory_gib <= 1e6, ">= 0.5"),
    ):
        if not valid:
            raise ValueError(f"{name} must be {allowed}, got {value!r} ({FIELD}.{name}).")
