"""SIGTERM and Ctrl-C: the step ends, a checkpoint is saved, and the process says so.

A second signal ends the process at once, as it would without us. After SIGTERM a grace time may
run: if the step and its checkpoint have not ended by then, the process ends without them, and says
so, before whoever sent the signal ends it silently.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from rljax.processes.processes import ONE, Processes

HANDLED = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The run was asked to stop, and has; the process ends with 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopSignal:
    """Whether a signal has asked the run to stop, in one process or another."""

    def __init__(self, processes: Processes = ONE, grace_seconds: float = 0.0) -> None:
        """No signal yet; `grace_seconds` after SIGTERM the process ends anyway, 0: never."""
        self.processes, self.grace_seconds = processes, grace_seconds
        self.number: int | None = None
        # Says which checkpoint counts where the step did not end in time.
        self.last_saved: Callable[[], str] = lambda: "nothing is saved yet"
        self._noticed = False  # by something else than a signal; the first signal is no second one
        self._timer: threading.Timer | None = None

    def asked(self) -> bool:
        """Whether any of the processes was asked to stop; all call this at the same place."""
        agreed = self.processes.agree(self.number)
        if agreed is None:  # a signal that came meanwhile is told next time
            return False
        self.ask(agreed, f"{signal.Signals(agreed).name} of another process")
        self.number = agreed  # of several signals the same for all
        return True

    @property
    def name(self) -> str:
        """The name of the signal, such as "SIGTERM"."""
        return signal.Signals(self.number).name

    def check(self) -> None:
        """Raises Stopped if there was one; to be called where there is nothing to save."""
        if self.number is not None:
            raise Stopped(self.number)

    def ask(self, number: int, why: str) -> None:
        """Asks the run to stop as a signal would."""
        if self.number is None:
            self._noticed = True
            self._begin(number, f"{why}: the step ends and is saved")

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopSignal"]:
        """Handles the signals meanwhile, in the main thread; elsewhere Python allows no handlers.

        A signal that the process was started to ignore, as by nohup, stays ignored.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {
                n: signal.getsignal(n) for n in HANDLED if signal.getsignal(n) != signal.SIG_IGN
            }
        try:
            for number in before:
                signal.signal(number, self._handle)
            yield self
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and not self._noticed:  # again: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._noticed = False
        if self.number is None:
            name = signal.Signals(number).name
            self._begin(number, f"{name}: the step ends and is saved; once more ends at once")

    def _begin(self, number: int, line: str) -> None:
        self.number = number
        _write(line)
        if self.grace_seconds and number != signal.SIGINT:  # nobody waits after a Ctrl-C
            self._timer = threading.Timer(self.grace_seconds, self._expire)
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        _write(
            f"{self.name}: the step did not end within {self.grace_seconds:g} s "
            f"(config.checkpoint.grace_seconds): {self.last_saved()}; the same command continues "
            "the run"
        )
        os._exit(128 + self.number)


def _write(line: str) -> None:
    """Python's own streams may be in the middle of a write."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
