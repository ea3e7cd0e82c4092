"""One process at a time writes into a workdir.

WORKDIR/lock names the process. It also carries a lock of the operating system (flock), which ends
with the process however that ends: a killed run leaves a file behind and no lock. Some shared file
systems know such locks on one host only, or not at all. There the file tells: the process renews
its time every `BEAT_SECONDS`.
"""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rljax.errors import blamed

LOCK_FILE = "lock"
BEAT_SECONDS = 10.0
DEAD_SECONDS = 60.0  # without a sign of life: the process on another host is gone

LET_GO_SECONDS = 10.0  # a child of a dead process closes what it inherited

# Descriptors that hold a lock, and of which workdir. A child of os.fork would keep the lock after
# its parent's end.
_held: dict[int, Path] = {}


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the lock of a workdir, which exists.

    Raises:
        ValueError: if another process holds it, or the file cannot be written.
    """
    handle = _acquire(workdir)
    _held[handle] = workdir
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(handle, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        (workdir / LOCK_FILE).unlink(missing_ok=True)
        _held.pop(handle, None)
        os.close(handle)


def check_there(workdir: Path) -> None:
    """Checks that a workdir whose lock this process holds is still the one that it locked.

    Raises:
        ValueError: if it was removed, moved or replaced meanwhile. What is written by its name from
            then on would make a part of a run somewhere else.
    """
    for handle, path in _held.items():
        if path == workdir and not _same_file(handle, path / LOCK_FILE):
            raise ValueError(
                f"{workdir} is no longer there, or no longer the folder that this run began to "
                "write in: it was removed, moved or unmounted. Put it back, and give the same "
                "command again (--workdir)."
            )


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _acquire(workdir: Path) -> int:
    """A descriptor of the lock file that holds the lock."""
    path = workdir / LOCK_FILE
    while True:
        with blamed(str(path), OSError, field="--workdir"):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(handle, workdir)
            # Whoever held it before may have taken the file away between the two calls.
            if _same_file(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _take(handle: int, workdir: Path) -> None:
    """Locks the file and writes this process into it.

    Raises:
        ValueError: if a living process holds it.
    """
    here, owner = socket.gethostname(), _owner(handle)
    age = time.time() - os.fstat(handle).st_mtime
    try:
        alive = not _flocked(handle, here)
    except OSError:  # no locks on this file system
        alive = owner.get("host") == here and runs(owner["pid"])
    elsewhere = bool(owner) and owner["host"] != here
    if alive or (elsewhere and age < DEAD_SECONDS):
        raise ValueError(_in_use(workdir, handle, elsewhere))
    started = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    text = json.dumps({"pid": os.getpid(), "host": here, "started": started})
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _flocked(handle: int, here: str) -> bool:
    """Takes the system's lock, unless another process holds it.

    A child that was forked just before its process died lets go a moment later: where the owner is
    a dead process of this host, that is waited for.
    """
    until = time.monotonic() + LET_GO_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            owner = _owner(handle)
            dead = owner.get("host") == here and not runs(owner["pid"])
            if not dead or time.monotonic() > until:
                return False
        time.sleep(0.05)


def _in_use(workdir: Path, handle: int, elsewhere: bool) -> str:
    """The error, with the process that holds the lock; it may just be writing its name."""
    who = "another process"
    for _ in range(20):
        if owner := _owner(handle):
            who = f"process {owner['pid']} on {owner['host']}, started {owner['started']}"
            break
        time.sleep(0.05)
    wait = f" (a dead one is known after {DEAD_SECONDS:.0f} s)" if elsewhere else ""
    return (
        f"{workdir} is in use by {who}: wait until it ends{wait}, end it, or give another "
        "--workdir."
    )


def _owner(handle: int) -> dict[str, Any]:
    """What a lock file says of its process; {} where it was never written, or not to its end."""
    try:
        found = json.loads(os.pread(handle, 10_000, 0))
    except ValueError:
        return {}
    known = {"pid": int, "host": str, "started": str}
    whole = isinstance(found, dict) and all(
        isinstance(found.get(name), kind) for name, kind in known.items()
    )
    return found if whole else {}


def runs(pid: int) -> bool:
    """Whether another process of this host has the number."""
    if pid == os.getpid():
        return False  # of a process before, in a container that counts from 1 again
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _beat(handle: int, ended: threading.Event) -> None:
    """Renews the time of the file until the run ends."""
    while not ended.wait(BEAT_SECONDS):
        os.utime(handle)


def _release_in_child() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)
