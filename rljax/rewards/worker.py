"""One sample under a timer, and the process that scores samples for the pool.

The process is a bare interpreter that runs `main`. Children of `multiprocessing` would re-import
the main script, and with it jax. It speaks pickles over an inherited socket.
"""

import contextlib
import importlib
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from rljax.rewards import functions
from rljax.rewards.compose import Composition

# A reward that catches our exception meets it again this often, until it gives up.
_REPEAT_SECONDS = 0.2
# CPU seconds beyond the limit after which the kernel ends a worker stuck inside C code.
_CPU_GRACE_SECONDS = 1.0


class Sample(NamedTuple):
    """What a reward may look at."""

    prompt: str
    completion: str
    reference: Any
    completion_tokens: int | None


class Outcome(NamedTuple):
    """`values` per member of the composition, or `error` with the reason why there are none."""

    values: list[float] | None
    error: str | None


class _TimeUp(BaseException):
    """The time is up. No Exception, so that a reward's own `except Exception` lets it pass."""


class Timer:
    """Raises `_TimeUp` in the main thread when a sample takes too long.

    Args:
        seconds: limit for one sample, wall time.
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


def score_sample(composition: Composition, sample: Sample, timer: Timer) -> Outcome:
    """Scores one sample; whatever a reward does wrong becomes the outcome's error."""
    try:
        try:
            timer.start()
            values = composition.values(*sample)
        finally:
            timer.stop()
    except _TimeUp:
        timer.stop()  # the alarm may have interrupted the first stop
    except (KeyboardInterrupt, SystemExit):
        if not timer.kill:  # the trainer's own process must obey these; a worker does not
            raise
        return Outcome(None, traceback.format_exc(limit=-4))
    except Exception:
        if not timer.fired:
            return Outcome(None, traceback.format_exc(limit=-4))
    else:
        if not timer.fired:
            return Outcome(values, None)
    return Outcome(None, f"The reward took longer than {timer.seconds} s.")


def main() -> None:
    """Scores what the pool sends until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer to handle
    connection = Connection(int(sys.argv[1]))
    spec, timeout_seconds, memory_gib = connection.recv()
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    sys.stdout = sys.stderr  # a reward that prints must not disturb the run's own output
    try:
        composition = Composition(spec)
        for member in composition.members:
            if member.name in functions.WARM_IMPORTS:
                importlib.import_module(functions.WARM_IMPORTS[member.name])
    except Exception:
        connection.send(traceback.format_exc())
        return
    connection.send(None)
    timer = Timer(timeout_seconds, kill=True)
    with timer.installed(), contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            for sample in connection.recv():
                connection.send(score_sample(composition, Sample(*sample), timer))
