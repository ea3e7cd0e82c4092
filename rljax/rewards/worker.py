"""One request under a timer, and the process that answers requests for a pool (workers.py).

The process is a bare interpreter that runs `main`. Children of `multiprocessing` would re-import
the main script, and with it jax. It speaks pickles over an inherited socket. Every reply carries
the number of its request and the process that answered it: what is asked may fork.

Above it stands a guard (guard.py), so that nothing that was started here outlives the process
or the run.
"""

import contextlib
import importlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from rljax.errors import reason
from rljax.rewards.guard import start_guarded
from rljax.user_modules import place_of

# A reward that catches our exception meets it again this often, until it gives up.
_REPEAT_SECONDS = 0.2
# CPU seconds beyond the limit after which the kernel ends a worker stuck inside C code.
_CPU_GRACE_SECONDS = 1.0


class Job(NamedTuple):
    """What a worker does.

    Attributes:
        work: "module:function"; called once with `arguments` it returns what answers requests,
            ask(*request).
        arguments: plain values.
        noun: what answers, in messages.
        seconds: limit for one request.
        memory_mb: address space of a worker.
    """

    work: str
    arguments: tuple
    noun: str
    seconds: float
    memory_mb: int


class Outcome(NamedTuple):
    """An answer, or the reason why there is none."""

    answer: Any
    error: str | None


class Reply(NamedTuple):
    """What a process says of one request."""

    number: int  # of the request, as it was asked
    process: int  # id of the one that answered it
    outcome: Outcome
    spent: bool = False  # memory has run out: the process ends, another one goes on


class _TimeUp(BaseException):
    """The time is up. No Exception, so that a reward's own `except Exception` lets it pass."""


class Timer:
    """Raises `_TimeUp` in the main thread when a request takes too long.

    Args:
        seconds: limit for one request, wall time.
        kill: also let the kernel end the process after `seconds` of CPU time and a little more;
            the only thing that stops a single long C call, such as a runaway regular expression.
    """

    def __init__(self, seconds: float, *, kill: bool) -> None:
        self.seconds, self.kill = seconds, kill
        self.fired = False
        self._armed = False
        self.usable = threading.current_thread() is threading.main_thread()

    def _on_alarm(self, signum: int, frame: Any) -> None:
        if self._armed:
            self.fired = True
            raise _TimeUp

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Takes over SIGALRM; outside the main thread this does nothing, and nothing is timed."""
        if not self.usable:
            yield
            return
        previous = signal.signal(signal.SIGALRM, self._on_alarm)
        try:
            yield
        finally:
            self.stop()
            signal.signal(signal.SIGALRM, previous)

    def start(self) -> None:
        self.fired = False
        if self.usable:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self.seconds, _REPEAT_SECONDS)
            if self.kill:
                signal.setitimer(signal.ITIMER_PROF, self.seconds + _CPU_GRACE_SECONDS)

    def stop(self) -> None:
        self._armed = False
        if self.usable:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if self.kill:
                signal.setitimer(signal.ITIMER_PROF, 0)


def answer(ask: Callable, request: Sequence, timer: Timer, noun: str) -> Outcome:
    """Answers one request; whatever goes wrong in it becomes the outcome's error."""
    try:
        try:
            timer.start()
            found = ask(*request)
        finally:
            timer.stop()
    except _TimeUp:
        timer.stop()  # the alarm may have interrupted the first stop
    except (KeyboardInterrupt, SystemExit) as error:
        if not timer.kill:  # the trainer's own process must obey these; a worker does not
            raise
        return Outcome(None, _said(error))
    except BaseException as error:  # also what no Exception is, such as asyncio's CancelledError
        if not timer.fired:
            return Outcome(None, _said(error))
    else:
        if not timer.fired:
            return Outcome(found, None)
    return Outcome(None, f"The {noun} took longer than {timer.seconds} s.")


def _said(error: BaseException) -> str:
    """An exception in one line, with the line of the user's file that it is from."""
    kind, text, place = type(error).__name__, reason(error)[:2000], place_of(error)
    return (kind if text == kind else f"{kind}: {text}") + (f" ({place})" if place else "")


def main() -> None:
    """Answers what the pool sends until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer to handle
    start_guarded(int(sys.argv[2]))
    connection = Connection(int(sys.argv[1]))
    job = Job(*connection.recv())
    limit = job.memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    module, _, function = job.work.partition(":")
    try:
        ask = getattr(importlib.import_module(module), function)(*job.arguments)
    except Exception as error:
        connection.send(_said(error))
        return
    process, timer = os.getpid(), Timer(job.seconds, kill=True)
    connection.send(process)
    with timer.installed(), contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            for number, request in connection.recv():
                outcome = answer(ask, request, timer, job.noun)
                if os.getpid() != process:  # it forked, and this is the child
                    os._exit(0)
                spent = (outcome.error or "").startswith(MemoryError.__name__)
                if spent:
                    limit = f"more than {job.memory_mb} MB (config.scoring.memory_mb)"
                    outcome = Outcome(None, f"{outcome.error}: {limit}")
                connection.send(Reply(number, process, outcome, spent))
                if spent:
                    return
