"""Whether the main thread goes on: a hung collective returns never, and says nothing."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Knows what the process is doing, and how long that may take.

    Args:
        step_seconds: between two beats at most; 0 for no limit.
        compile_seconds: the same where a beat says that a compilation follows.
        clock: seconds.
    """

    def __init__(
        self,
        step_seconds: float,
        compile_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step, self._compile, self._clock = step_seconds, compile_seconds, clock
        self._lock = threading.Lock()
        self._doing, self._since, self._limit = "start", clock(), 0.0

    def beat(self, what: str, *, compiles: bool = False) -> None:
        """Says what begins now."""
        limit = max(self._step, self._compile) if compiles and self._step else self._step
        with self._lock:
            self._doing, self._since, self._limit = what, self._clock(), limit

    def rest(self, what: str) -> None:
        """Says what begins now, and that it may take as long as it takes."""
        with self._lock:
            self._doing, self._since, self._limit = what, self._clock(), 0.0

    def doing(self) -> tuple[str, float]:
        """What the process is doing, and for how many seconds."""
        with self._lock:
            return self._doing, self._clock() - self._since

    def late(self) -> str:
        """What is wrong; "" while all is well."""
        with self._lock:
            seconds = self._clock() - self._since
            if not self._limit or seconds < self._limit:
                return ""
            return (
                f"hung: {self._doing!r} has taken {seconds:.0f} s, and {self._limit:g} s are "
                "allowed (config.processes.step_seconds, config.processes.compile_seconds)"
            )
