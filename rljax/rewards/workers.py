"""Worker processes that answer requests, with limits of time and memory for each of them."""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from rljax.errors import StoppedError
from rljax.rewards.lifeline import Lifeline
from rljax.rewards.output import OutputPipe
from rljax.rewards.worker import Job, Outcome, Reply
from rljax.user_modules import trainer_path

FIELD = "config.scoring"

# Importing a verifier may take long on a busy machine; it never counts against a request.
_START_SECONDS = 300.0
# The worker ends itself first (timer, then CPU limit); this is for one that sleeps inside C code.
_KILL_GRACE_SECONDS = 3.0
# From the end of its socket to the end of a process that ends by itself.
_LAST_SECONDS = 1.0
# The guard of a process ends all that is below it.
_END_SECONDS = 15.0
_MAX_CHUNK = 64
_LARGEST_REPLY = 2**20  # bytes; more is none of ours
_FALSE_REPLY = "Twice the reply to a sample was another's"
# The path comes first: in PYTHONPATH a user's json.py would hide the standard library's.
_WORKER_PROGRAM = """
import sys
sys.path[:] = {path!r}
from rljax.rewards.worker import main
main()
"""


class ScoringError(StoppedError):
    """Too large a share of a step's requests failed, or no worker could start."""


class Workers:
    """A pool of processes that do one job.

    They start in the background, so the constructor returns at once. Answers do not depend on the
    number of workers.

    Args:
        job: of every worker.
        count: processes, at least 1.
    """

    def __init__(self, job: Job, count: int) -> None:
        self._chunks: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        self._pipes = OutputPipe(), Lifeline()
        self._workers = [_Worker(self._chunks, job, *self._pipes) for _ in range(count)]

    def ask(self, requests: Sequence[tuple]) -> list[Outcome]:
        """Answers N requests, in their order; safe to call from several threads.

        Raises:
            ScoringError: the workers cannot start.
        """
        # Four chunks a worker even out requests of unequal cost.
        size = max(1, min(_MAX_CHUNK, -(-len(requests) // (4 * len(self._workers)))))
        chunks = [_Chunk(requests[i : i + size]) for i in range(0, len(requests), size)]
        for chunk in chunks:
            self._chunks.put(chunk)
        for chunk in chunks:
            chunk.done.wait()
        for chunk in chunks:
            if chunk.error is not None:
                raise ScoringError(chunk.error)
        return [outcome for chunk in chunks for outcome in chunk.outcomes]

    def close(self) -> None:
        """Ends the workers; may be called twice."""
        workers, self._workers = self._workers, []
        for _ in workers:
            self._chunks.put(None)
        for worker in workers:
            worker.close()
        for pipe in self._pipes:
            pipe.close()


class _Chunk:
    """Requests for one worker, and where their outcomes go."""

    def __init__(self, requests: Sequence[tuple]) -> None:
        self.requests = requests
        self.outcomes: list[Outcome] = []
        self.error: str | None = None
        self.asked_again = -1  # place of the request whose first reply was a false one
        self.done = threading.Event()


class _Worker:
    """A process, and the thread that feeds it.

    The process answers request by request. One that stays silent beyond the time limit, or dies,
    has failed exactly the request it was at; the rest of the chunk goes to its successor. A reply
    that is not of this process or not of this request ends the process too, and the request is
    asked once more.
    """

    def __init__(
        self,
        chunks: "queue.SimpleQueue[_Chunk | None]",
        job: Job,
        output: OutputPipe,
        lifeline: Lifeline,
    ) -> None:
        self._chunks, self._job = chunks, job
        self._output, self._lifeline = output, lifeline
        self._silence_seconds = job.seconds + _KILL_GRACE_SECONDS
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
                while error is None and len(chunk.outcomes) < len(chunk.requests):
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
        """The next request of a chunk has failed, unless a false reply gives it another try."""
        place = len(chunk.outcomes)
        if failure.startswith(_FALSE_REPLY) and chunk.asked_again != place:
            chunk.asked_again = place
        else:
            chunk.outcomes.append(Outcome(None, failure))

    def _feed(self, chunk: _Chunk) -> str | None:
        """Sends what is open; returns why the worker failed its next request, or None."""
        done = len(chunk.outcomes)
        still_open = enumerate(map(tuple, chunk.requests[done:]), start=done)
        try:
            self._connection.send(list(still_open))
            while len(chunk.outcomes) < len(chunk.requests):
                if not self._connection.poll(self._silence_seconds):
                    took = f"took longer than {self._job.seconds} s"
                    return f"The {self._job.noun} {took} and was killed."
                reply = read_reply(self._connection.recv_bytes(_LARGEST_REPLY))
                expected = len(chunk.outcomes), self._scoring
                if reply is None or (reply.number, reply.process) != expected:
                    return f"{_FALSE_REPLY}: the {self._job.noun} disturbs its worker's socket."
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
                f"{self._job.noun} ended it, used more than {self._job.memory_mb} MB "
                f"({FIELD}.memory_mb), or ran past {self._job.seconds} s in C code."
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
            ours.send(tuple(self._job))
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
        """Ends the process, and all that its work has started."""
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
