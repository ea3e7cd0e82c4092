"""Scoring in worker processes, with a time limit for every sample."""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax.errors import StoppedError, unknown_name
from rljax.processes.processes import ONE, Processes
from rljax.rewards.compose import Composition
from rljax.rewards.functions import PREPARED
from rljax.rewards.lifeline import Lifeline
from rljax.rewards.member import LARGEST
from rljax.rewards.output import OutputPipe
from rljax.rewards.share import shared_outcomes
from rljax.rewards.worker import Outcome, Reply, Sample, Timer, score_sample
from rljax.user_modules import trainer_path

FIELD = "config.scoring"

# What becomes of a sample that the verifier failed on.
FAILED_SAMPLES = ("failure_reward", "left_out")

# Each worker is an interpreter with its verifiers, some 100 MB.
MOST_WORKERS = 1024

# Importing a verifier may take long on a busy machine; it never counts against a sample.
_START_SECONDS = 300.0
# The worker ends itself first (timer, then CPU limit); this is for one that sleeps inside C code.
_KILL_GRACE_SECONDS = 3.0
# From the end of its socket to the end of a process that ends by itself.
_LAST_SECONDS = 1.0
# The guard of a process ends all that is below it.
_END_SECONDS = 15.0
_MAX_CHUNK = 64
_LARGEST_REPLY = 2**20  # bytes; more is none of ours
_FALSE_REPLY = "Twice the reply to a sample was another's: the reward disturbs its worker's socket."
# The path comes first: in PYTHONPATH a user's json.py would hide the standard library's.
_WORKER_PROGRAM = """
import sys
sys.path[:] = {path!r}
from rljax.rewards.worker import main
main()
"""


class ScoringError(StoppedError):
    """Too large a share of a step's samples could not be scored, or no worker could start."""


class Scores(NamedTuple):
    """Results of N samples, in the order given.

    Attributes:
        total: [N] f32, the composed reward; the failure reward where `failed`, NaN where
            `left_out`.
        parts: label -> [N] f32, each member's value before gates and weights; NaN where it does not
            apply, 0 where `failed`.
        correct: [N] bool, the first reward that applies reaches its `right_at`.
        judged: [N] bool, there is a verdict: `correct` is False because the sample is wrong.
        failed: [N] bool, the verifier raised, hung, died or returned no number in range.
        left_out: [N] bool, there is no reward to train on: the sample is out of its group.
        first_error: text of the first failure, or None.
        feedback: [N] texts (dtype object), what the rewards say of each sample, "" where nothing;
            None where nobody was asked.
        satisfied: [N] bool, every constraint that applies is satisfied, False where `failed`; None
            where the rewards hold no constraint.
    """

    total: np.ndarray
    parts: dict[str, np.ndarray]
    correct: np.ndarray
    judged: np.ndarray
    failed: np.ndarray
    left_out: np.ndarray
    first_error: str | None
    feedback: np.ndarray | None = None
    satisfied: np.ndarray | None = None


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
        failed_samples: "failure_reward" gives failed samples that total, and they count as wrong;
            "left_out" leaves them out, as samples that no reward applies to.
        max_failed_share: largest share of failed samples in one call that is tolerated.
        memory_mb: address space of one worker.
        processes: of the run; each one scores an equal share of the samples with its own workers.

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
        failed_samples: str = "failure_reward",
        max_failed_share: float = 0.5,
        memory_mb: int = 4096,
        processes: Processes = ONE,
    ) -> None:
        _check_limits(workers, timeout_seconds, failure_reward, max_failed_share, memory_mb)
        if failed_samples not in FAILED_SAMPLES:
            raise unknown_name(
                "rule for failed samples", failed_samples, FAILED_SAMPLES, f"{FIELD}.failed_samples"
            )
        self.failed_samples, self.processes = failed_samples, processes
        self.composition = Composition(spec)
        for member in self.composition.members:
            if member.name in PREPARED:
                PREPARED[member.name].check(timeout_seconds, **member.options)
        self.timeout_seconds = float(timeout_seconds)
        self.failure_reward = float(failure_reward)
        self.max_failed_share = float(max_failed_share)
        self._chunks: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        setup = (self.composition.portable(), self.timeout_seconds, int(memory_mb))
        self._pipes = (OutputPipe(), Lifeline()) if workers else ()
        self._workers = [_Worker(self._chunks, setup, *self._pipes) for _ in range(int(workers))]

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
        for pipe in self._pipes:
            pipe.close()

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
        scores = self._collect(shared_outcomes(self.processes, samples, self._outcomes))
        share = float(scores.failed.mean()) if samples else 0.0
        if share > self.max_failed_share:
            raise ScoringError(
                f"{int(scores.failed.sum())} of {len(samples)} samples could not be scored: share "
                f"{share:.3f}, allowed {self.max_failed_share:.3f} ({FIELD}.max_failed_share). "
                f"First failure:\n{scores.first_error}"
            )
        return scores

    def try_first(self, prompt: str, reference: Any) -> None:
        """Asks for one problem before a run begins, so that a broken reward is known at once.

        The completions are the empty one and the text of the reference: a reward that can score
        neither will hardly score a sample.

        Args:
            prompt: text of the problem.
            reference: of the problem.

        Raises:
            ValueError: with the line of the user's file that fails.
            ScoringError: the workers cannot start.
        """
        answer = reference.get("answer") if isinstance(reference, Mapping) else reference
        texts = ["", str(answer)]
        outcomes = self._outcomes([Sample(prompt, t, reference, len(t) + 1) for t in texts])
        if all(outcome.values is None for outcome in outcomes):
            raise ValueError(
                "The rewards fail on the first problem, with an empty completion and with "
                f"{_cut(texts[1])!r}: {outcomes[-1].error} ({FIELD}.rewards; "
                f"{FIELD}.try_first=False starts anyway)."
            )

    def _outcomes(self, samples: list[Sample]) -> list[Outcome]:
        if not samples:
            return []
        return self._in_workers(samples) if self._workers else self._in_process(samples)

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
        total = np.full(count, np.nan, np.float32)
        values = np.zeros((len(labels), count), np.float32)
        correct, failed, satisfied = (np.zeros(count, bool) for _ in range(3))
        for place, outcome in enumerate(outcomes):
            if outcome.values is None:
                failed[place] = True
                continue
            worth = self.composition.total(outcome.values)
            total[place] = np.nan if worth is None else worth
            values[:, place] = [np.nan if v is None else v for v in outcome.values]
            correct[place] = self.composition.is_right(outcome.values)
            satisfied[place] = self.composition.satisfies(outcome.values)
        if self.failed_samples == "failure_reward":
            total[failed] = self.failure_reward
        left_out = np.isnan(total)
        return Scores(
            total=total,
            parts=dict(zip(labels, values, strict=True)),
            correct=correct,
            judged=~left_out,
            failed=failed,
            left_out=left_out,
            first_error=next((o.error for o in outcomes if o.values is None), None),
            feedback=np.array([outcome.feedback for outcome in outcomes], object),
            satisfied=satisfied if self.composition.constraints else None,
        )


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Chunk:
    """Samples for one worker, and where their outcomes go."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.outcomes: list[Outcome] = []
        self.error: str | None = None
        self.asked_again = -1  # place of the sample whose first reply was a false one
        self.done = threading.Event()


class _Worker:
    """A process, and the thread that feeds it.

    The process answers sample by sample. One that stays silent beyond the time limit, or dies, has
    failed exactly the sample it was at; the rest of the chunk goes to its successor. A reply that
    is not of this process or not of this sample ends the process too, and the sample is asked
    once more.
    """

    def __init__(
        self,
        chunks: "queue.SimpleQueue[_Chunk | None]",
        setup: tuple[Any, ...],
        output: OutputPipe,
        lifeline: Lifeline,
    ) -> None:
        self._chunks, self._setup = chunks, setup
        self._output, self._lifeline = output, lifeline
        self._silence_seconds = setup[1] + _KILL_GRACE_SECONDS
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._scoring = 0  # id of the process that scores, below the one that was started
        self._spent = False
        self._lock = threading.Lock()  # a process is started, or the worker closed: never both
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._kill()
        self._thread.join()

    def _run(self) -> None:
        error = self._start()
        while (chunk := self._chunks.get()) is not None:
            try:
                while error is None and len(chunk.outcomes) < len(chunk.samples):
                    failure = self._feed(chunk)
                    if failure is not None:
                        self._fail(chunk, failure)
                    if failure is not None or self._spent:
                        self._stop()
                        error = self._start()
                chunk.error = error
            except Exception as problem:  # the caller waits on this chunk: it must hear of it
                chunk.error = f"The scoring thread failed: {problem!r}"
            finally:
                chunk.done.set()
        self._stop()

    def _fail(self, chunk: _Chunk, failure: str) -> None:
        """The next sample of a chunk has failed, unless a false reply gives it another try."""
        place = len(chunk.outcomes)
        if failure == _FALSE_REPLY and chunk.asked_again != place:
            chunk.asked_again = place
        else:
            chunk.outcomes.append(Outcome(None, failure))

    def _feed(self, chunk: _Chunk) -> str | None:
        """Sends what is open; returns why the worker failed its next sample, or None."""
        done = len(chunk.outcomes)
        open_samples = enumerate(map(tuple, chunk.samples[done:]), start=done)
        try:
            self._connection.send(list(open_samples))
            while len(chunk.outcomes) < len(chunk.samples):
                if not self._connection.poll(self._silence_seconds):
                    return f"The reward took longer than {self._setup[1]} s and was killed."
                reply = read_reply(self._connection.recv_bytes(_LARGEST_REPLY))
                expected = len(chunk.outcomes), self._scoring
                if reply is None or (reply.number, reply.process) != expected:
                    return _FALSE_REPLY
                chunk.outcomes.append(reply.outcome)
                if reply.spent:
                    self._spent = True
                    return None
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_SECONDS)  # its own exit status says more than ours
            self._kill()
            return (
                f"The worker process died while scoring (exit status {self._process.wait()}): the "
                f"reward ended it, used more than {self._setup[2]} MB ({FIELD}.memory_mb), or ran "
                f"past {self._setup[1]} s in C code."
            )
        return None

    def _start(self) -> str | None:
        """Starts a process and waits until it is ready; returns the reason if it is not."""
        try:
            ours, theirs = multiprocessing.Pipe()
            with self._lock:
                if self._closing:
                    return "The scorer is closed."
                self._connection = ours
                self._process = self._popen(theirs.fileno())
                self._spent = False
        except OSError as error:  # too many processes or open files
            return f"A scoring worker did not start: {error} ({FIELD}.workers)."
        theirs.close()
        said = f"no answer in {_START_SECONDS} s"
        with contextlib.suppress(EOFError, OSError):
            ours.send(self._setup)
            if ours.poll(_START_SECONDS):
                said = ours.recv()
                if isinstance(said, int):
                    self._scoring = said
                    return None
        self._kill()
        return f"A scoring worker did not start (exit {self._process.wait()}): {said}"

    def _popen(self, connection: int) -> "subprocess.Popen[bytes]":
        path = [str(Path(__file__).resolve().parents[2]), *trainer_path()]
        program, passed = _WORKER_PROGRAM.format(path=path), [connection, self._lifeline.end]
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=self._output.write,
            stderr=self._output.write,
            env=_environment(),
            process_group=0,
        )

    def _kill(self) -> None:
        """Ends the process, and all that its rewards have started."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()  # the guard's sign to end all that is below it
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                # Not waited for yet, so that nobody else can have the number of its group.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _stop(self) -> None:
        if self._process is not None:
            self._kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()


def read_reply(content: bytes) -> Reply | None:
    """What a worker sent; None where that is no reply."""
    try:
        reply = pickle.loads(content)
    except Exception:  # bytes that are no pickle make it raise anything
        return None
    return reply if isinstance(reply, Reply) else None


def _environment() -> dict[str, str]:
    """The trainer's environment, changed: every worker computes alike and takes one core."""
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",  # some verifiers iterate over sets of strings
        "PYTHONUNBUFFERED": "1",  # what a reward prints before it is killed is seen
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _check_limits(
    workers: int,
    timeout_seconds: float,
    failure_reward: float,
    max_failed_share: float,
    memory_mb: int,
) -> None:
    for name, value, valid, allowed in (
        (
            "workers",
            workers,
            0 <= workers <= MOST_WORKERS and workers == int(workers),
            f"a whole number in [0, {MOST_WORKERS}]: each is a process of some 100 MB",
        ),
        ("timeout_seconds", timeout_seconds, 0 < timeout_seconds < 1e6, "in (0, 1e6)"),
        (
            "failure_reward",
            failure_reward,
            abs(failure_reward) <= LARGEST,
            f"a finite number of at most {LARGEST:g}",
        ),
        ("max_failed_share", max_failed_share, 0 <= max_failed_share <= 1, "in [0, 1]"),
        (
            "memory_mb",
            memory_mb,
            512 <= memory_mb <= 2**24 and memory_mb == int(memory_mb),
            "a whole number in [512, 2^24]: an interpreter with its verifiers needs some",
        ),
    ):
        if not valid:
            raise ValueError(f"{name} must be {allowed}, got {value!r} ({FIELD}.{name}).")
