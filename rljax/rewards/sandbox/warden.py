"""The process that starts programs, watches them, and ends them. It is small, and trusted.

It is a bare interpreter in a session of its own. Its owner sends runs over a socket and gets back
how each program ended. When the owner ends, however that came about, the socket closes: the warden
ends what runs, removes its folders and ends too.
"""

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rljax.rewards.sandbox import kernel
from rljax.rewards.sandbox.descendants import end_children
from rljax.rewards.sandbox.layers import Layers
from rljax.rewards.sandbox.limits import Limits, Program
from rljax.rewards.sandbox.means import choose
from rljax.rewards.sandbox.programs import Failed, remove, run

_FOLDERS = "rljax-sandbox-"
_LOCK = "lock"


def make_base() -> tuple[str, int]:
    """A new folder for programs, and its lock; removes those of wardens that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        with contextlib.suppress(OSError), open(folder / _LOCK) as lock:
            if os.fstat(lock.fileno()).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(str(folder))
    base = tempfile.mkdtemp(prefix=_FOLDERS)
    lock = os.open(os.path.join(base, _LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.chmod(base, 0o711)
    return base, lock


def main() -> None:
    """Serves the owner until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")
    kernel.adopt_orphans()
    kernel.hide_from_others()
    connection = Connection(int(sys.argv[1]))
    base, lock = make_base()
    try:
        wanted, without = connection.recv()
        layers = choose(wanted, without, base)
        connection.send(layers)
        while isinstance(layers, Layers):
            answer = _answer(connection, layers, base)
            connection.send(answer)
            if isinstance(answer, Failed):  # what is wrong may lie here: a fresh one comes next
                break
    except (EOFError, OSError):
        pass
    finally:
        end_children()
        remove(base)
        os.close(lock)


def _answer(connection: Connection, layers: Layers, base: str) -> Any:
    """The result of the next run that the owner asks for."""
    programs, limits = connection.recv()
    programs = [Program(*program) for program in programs]
    try:
        return run(programs, Limits(*limits), layers, base, connection.fileno())
    except OSError as error:  # no more processes, descriptors or space
        return Failed(f"{type(error).__name__}: {error}")
