"""SIGTERM and Ctrl-C: the step ends, a checkpoint is saved, and the process says so.

A second signal ends the process at once, as it would without us.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from rljax.processes.processes import ONE, Processes

HANDLED = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The run was asked to stop, and has; the process ends with 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopSignal:
    """Whether a signal has asked the run to stop, in one process or another."""

    def __init__(self, processes: Processes = ONE) -> None:
        self.processes = processes
        self.number: int | None = None

    def asked(self) -> bool:
        """Whether any of the processes was asked to stop; all call this at the same place."""
        self.number = self.processes.agree(self.number)
        return self.number is not None

    @property
    def name(self) -> str:
        """The name of the signal, such as "SIGTERM"."""
        return signal.Signals(self.number).name

    def check(self) -> None:
        """Raises Stopped if there was one; to be called where there is nothing to save."""
        if self.number is not None:
            raise Stopped(self.number)

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
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:  # again: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.number = number
        # Python's own streams may be in the middle of a write.
        text = f"\n{self.name}: the step ends and is saved; once more ends at once\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
