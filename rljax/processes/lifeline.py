"""The end of this process when another one, or the watchdog, ends them all.

The main thread cannot be asked: it may wait for a collective that another process will never join.
So the process says who ended first, writes its stacks, and exits at once. Children such as scoring
processes end with it (rewards/lifeline.py); a checkpoint that was being written has no name yet.
"""

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from rljax.commands.statuses import Status
from rljax.processes.ends import Person, Verdict
from rljax.processes.stacks import FOLDER, write_stacks

# Nothing that the end does may keep the process longer.
END_SECONDS = 10.0
# For a process that failed first, and cleans up after its error.
UNWIND_SECONDS = 20.0


class Lifeline:
    """Ends this process.

    Args:
        me: this process.
        people: all of them.
        workdir: of the run.
        close: closes the connections within so many seconds, once the others have heard.
        leave: ends the process; another one in tests.
    """

    def __init__(
        self,
        me: Person,
        people: Sequence[Person],
        workdir: Path,
        close: Callable[[float], None] = lambda seconds: None,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self.me, self.people, self.workdir = me, people, workdir
        self.close, self.leave = close, leave

    def end(self, verdict: Verdict, fails: bool = False) -> None:
        """Ends this process as the verdict says.

        Args:
            verdict: how all end.
            fails: the main thread is ending. If its own end is what counts, or all end as they were
                asked to, it may clean up and tell it, and this returns.
        """
        end = verdict.end
        if fails and (verdict.calm or end.index == self.me.index):
            self._leave_after(UNWIND_SECONDS, end.status, end.reason)
            return
        self._leave_after(END_SECONDS, end.status)
        what = f"{self.people[end.index]} ended first: {end.reason}"
        say(what)
        if end.status in (Status.RESTART, Status.FAULT):
            for line in verdict.doing:
                say(f"  {line}")
            file = Path(self.workdir) / FOLDER / f"process-{self.me.index}.txt"
            write_stacks(f"stacks of {self.me}; {what}", file)
        _flush()
        self.close(END_SECONDS / 2)
        self.leave(end.status)

    def leave_at_exit(self, status: int) -> None:
        """Lets Python end, but without the libraries that would wait for other processes."""

        def leave() -> None:
            _flush()
            self.leave(status)

        atexit.register(leave)  # the last one registered is the first one called
        self._leave_after(UNWIND_SECONDS, status)

    def _leave_after(self, seconds: float, status: int, line: str = "") -> None:
        """Ends the process after so long, whatever still keeps it."""

        def leave() -> None:
            if line:
                say(line)
            self.leave(status)

        timer = threading.Timer(seconds, leave)
        timer.daemon = True
        timer.start()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def say(line: str) -> None:
    """Writes a line to standard error past Python's own streams, which a thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
