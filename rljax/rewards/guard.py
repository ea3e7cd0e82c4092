"""The process above a scoring process: what the rewards leave behind ends with it.

It adopts every orphan below it, also one that made a session of its own. It ends all of them once
the scoring process has ended, the trainer has, or the pool says so with SIGTERM.
"""

import contextlib
import os
import select
import signal
import time
from typing import NoReturn

from rljax.rewards.sandbox import kernel
from rljax.rewards.sandbox.descendants import end_children

_LAST_SECONDS = 1.0


def start_guarded(trainer: int) -> None:
    """Forks: returns in the child, which scores; the parent guards it, and never returns.

    Args:
        trainer: a pipe that nobody writes to, and whose other end only the trainer holds.
    """
    kernel.adopt_orphans()
    signals, written = os.pipe()
    child = os.fork()
    if child == 0:
        kernel.end_with_parent()
        for descriptor in (trainer, signals, written):
            os.close(descriptor)
        return
    status = None
    try:
        status = _wait(child, trainer, signals, written)
        if status is None:
            os.kill(child, signal.SIGKILL)
        _let_end()
        end_children()
    finally:
        if not kernel.LINUX:  # nothing is adopted there: the group is all that is known
            os.killpg(0, signal.SIGKILL)
        _end_like(status)


def _wait(child: int, trainer: int, signals: int, written: int) -> int | None:
    """Waits for the end of the child, whose wait status is returned; or of the trainer."""
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    kept = sorted((trainer, signals, written))
    for first, last in zip((-1, *kept), (*kept, 256), strict=True):
        if first + 1 < last:  # the socket is the child's: its end must be heard at once
            os.closerange(first + 1, last)
    while True:
        status = _collect(child)
        if status is not None:
            return status
        ready = select.select([trainer, signals], [], [], 1.0)[0]
        if trainer in ready:
            return None
        if signals in ready and signal.SIGTERM in os.read(signals, 64):
            return _collect(child)


def _let_end() -> None:
    """A moment for what ends by itself with the scoring process: a sandbox removes its folders."""
    deadline = time.monotonic() + _LAST_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


def _collect(child: int) -> int | None:
    """The child's wait status if it has ended; adopted processes are waited for on the way."""
    with contextlib.suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == child:
                return status
            if process == 0:
                return None
    return None


def _end_like(status: int | None) -> NoReturn:
    """Ends this process as the child has ended."""
    if status is not None and os.WIFSIGNALED(status):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else 1)
