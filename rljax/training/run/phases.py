"""What a run is doing now: for the account of its time, and for whoever watches it.

    with phase("sampling"):
        ...

A phase tells three readers. The ledger of the run, if this thread has one, books the time: every
moment belongs to one phase (rljax/reporting/goodput.py lists them). The file that the environment
variable RLJAX_PHASES names, if there is one, gets a line "TIME PROCESS NAME" when the phase begins
and "TIME PROCESS -NAME" when it ends, from all threads: launch/chaos.py kills runs by it. The
timeline of steps that are profiled (timeline.py) gets a span, from all threads.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import jax

from rljax.reporting.goodput import PHASES, WHOLE
from rljax.training.run.timeline import recorded

MARKS_VARIABLE = "RLJAX_PHASES"

# Tracing, lowering, compiling or loading a program; inner functions are traced within outer ones.
COMPILING = "/jax/core/compile/"
LOWERED = COMPILING + "jaxpr_to_mlir_module_duration"
COMPILED = COMPILING + "backend_compile_duration"


class Ledger:
    """Seconds by phase; they add up to the time since the ledger was opened."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, began: float | None = None
    ) -> None:
        """Opens the ledger in the phase "start".

        Args:
            clock: seconds, never falling.
            began: by the clock; now, by default.
        """
        self.clock = clock
        self._at = clock() if began is None else began
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._open = ["start"]
        self._compiled: list[tuple[float, float]] = []  # spans of the phase that is open

    def enter(self, phase: str) -> None:
        """Begins a phase inside the one that is open."""
        self._book()
        self._open.append(self._open[-1] if self._open[-1] in WHOLE else phase)

    def leave(self) -> None:
        """Ends the phase that was begun last."""
        self._book()
        self._open.pop()

    def started(self) -> None:
        """The start is over: what lies in no phase from now on is "other"."""
        self._book()
        self._open[0] = "other"

    def compiled(self, seconds: float) -> None:
        """Books a span that ends now as compiling; spans within it were booked before it."""
        self._book()
        begin = self._at - seconds
        while self._compiled and self._compiled[-1][0] >= begin:
            first, last = self._compiled.pop()
            seconds -= last - first
        self._compiled.append((begin, self._at))
        phase = self._open[-1]
        moved = min(max(0.0, seconds), self._seconds[phase])
        self._seconds[phase] -= moved
        self._seconds["compile"] += moved

    def seconds(self) -> dict[str, float]:
        """Seconds by phase up to now; other threads may ask."""
        found = dict(self._seconds)
        found[self._open[-1]] += max(0.0, self.clock() - self._at)
        return found

    def _book(self) -> None:
        now = self.clock()
        self._seconds[self._open[-1]] += now - self._at
        self._at = now


_ledger: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Meanwhile the run is in this phase; also a decorator of functions."""
    ledger = _ledger.get()
    mark(name)
    if ledger is not None:
        ledger.enter(name)
    try:
        with recorded(name):
            yield
    finally:
        if ledger is not None:
            ledger.leave()
        mark(f"-{name}")


@contextlib.contextmanager
def booked(ledger: Ledger) -> Iterator[None]:
    """Meanwhile phases of this thread, and what it compiles, are booked in the ledger."""
    token = _ledger.set(ledger)
    jax.monitoring.register_event_duration_secs_listener(_compiling)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(_compiling)
        _ledger.reset(token)


def mark(name: str) -> None:
    """Writes one line into the file of RLJAX_PHASES; nothing without that variable.

    That a watcher cannot be told is no fault of the run.
    """
    if path := os.environ.get(MARKS_VARIABLE):
        line = f"{time.time():.6f} {os.getpid()} {name}\n"
        with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
            file.write(line.encode())


def process_began() -> float:
    """When this process began, by `time.perf_counter`; now where the system does not tell."""
    now = time.perf_counter()
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return now
    return now - max(0.0, age)


def _compiling(event: str, seconds: float, **about: object) -> None:
    """Hears of everything that jax measures."""
    if not event.startswith(COMPILING):
        return
    if event == LOWERED:  # what follows is the compiler
        mark("compile")
    elif event == COMPILED:
        mark("-compile")
    ledger = _ledger.get()
    if ledger is not None:
        ledger.compiled(seconds)
