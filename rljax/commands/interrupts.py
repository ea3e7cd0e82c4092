"""Ctrl-C while a command imports what it needs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from rljax.commands.statuses import Status


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Meanwhile Ctrl-C ends the process at once, with one word.

    A KeyboardInterrupt within the import of a native module would become an error of that module.
    A Ctrl-C that somebody handles, or that the process was started to ignore, stays as it is.
    """
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(Status.INTERRUPTED)
