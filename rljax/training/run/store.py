"""A run whose checkpoints lie in an object store: its lock there, and a copy of its small files.

    STORE/STAGE/STEP/   checkpoints            STORE/lock   the process that writes
    STORE/.workdir/     config.json, run.json, metrics.jsonl, rollouts, ... with each checkpoint

The workdir itself is on a disk, and may be lost with its machine: a new one is filled from the
copy, and the run goes on from the store's last checkpoint.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from rljax.reporting.files import CONFIG_FILE
from rljax.training.run.lock import LOCK_FILE, locked, runs
from rljax.training.run.storage import (
    FIELD,
    Folder,
    checkpoints_folder,
    copy,
    files_under,
    in_store,
    stamp,
)

COPY_FOLDER = ".workdir"

# Not copied: what is in the store already, or of this machine.
NOT_COPIED = ("checkpoints/", "damaged/", LOCK_FILE)

BEAT_SECONDS = 10.0
DEAD_SECONDS = 25.0  # a lock that was not renewed for so long is that of a dead process


@contextlib.contextmanager
def held(workdir: Path, folder: str) -> Iterator[list[str]]:
    """Holds a workdir, and the folder of its checkpoints where that lies in a store.

    A workdir without a run is filled from the copy in the store, if there is one.

    Args:
        workdir: of the run; it exists.
        folder: config.checkpoint.folder.

    Yields:
        Lines to say.

    Raises:
        ValueError: if another process holds one of the two.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(workdir))
        lines: list[str] = []
        if folder:
            root = checkpoints_folder(workdir, folder)
            stack.enter_context(_store_locked(root))
            lines = fetch(root, workdir)
        yield lines


class Copy:
    """The copy of a workdir's small files in the store; none for checkpoints on a disk."""

    def __init__(self, workdir: Path, folder: str) -> None:
        """Nothing is copied yet."""
        self.workdir, self.root = workdir, checkpoints_folder(workdir, folder)
        self._known: dict[str, tuple] = {}

    def renew(self) -> None:
        """Copies what has changed. A checkpoint that is written afterwards goes with it."""
        if not in_store(self.root):
            return
        for name, path in files_under(self.workdir).items():
            if name.startswith(NOT_COPIED) or Path(name).name.startswith("."):
                continue
            if self._known.get(name) != (now := stamp(path)):
                copy(path, self.root / COPY_FOLDER / name)
                self._known[name] = now


def fetch(root: Folder, workdir: Path) -> list[str]:
    """Fills a workdir that holds no run from the copy in the store.

    config.json comes last: without it the workdir is filled again.

    Returns:
        A line to say, if anything was copied.
    """
    source = root / COPY_FOLDER
    if (workdir / CONFIG_FILE).exists() or not (source / CONFIG_FILE).exists():
        return []
    files = files_under(source)
    for name in sorted(files, key=CONFIG_FILE.__eq__):
        copy(files[name], workdir / name)
    return [f"{workdir} was filled with the {len(files)} files that {root} holds of the run"]


@contextlib.contextmanager
def _store_locked(root: Folder) -> Iterator[None]:
    """An object that names this process and is renewed; whoever stops renewing it is dead.

    Two processes that start within the same second see each other when they read it again.
    """
    path, mine = root / LOCK_FILE, uuid.uuid4().hex
    about = {
        "id": mine,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    _wait_for_the_dead(path, root)
    _write(path, about, 0)
    time.sleep(min(1.0, BEAT_SECONDS / 10))
    if (found := _read(path)).get("id") != mine:
        raise ValueError(_in_use(root, found))
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, about, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        path.unlink(missing_ok=True)


def _wait_for_the_dead(path: Folder, root: Folder) -> None:
    """Returns when nobody holds the lock; a living process renews it, and is named."""
    first, until = _read(path), time.monotonic() + DEAD_SECONDS
    if not first or (first.get("host") == socket.gethostname() and not runs(first["pid"])):
        return
    while time.monotonic() < until:
        time.sleep(BEAT_SECONDS / 10)
        now = _read(path)
        if not now:
            return
        if now != first:
            raise ValueError(_in_use(root, now))


def _in_use(root: Folder, found: dict) -> str:
    who = f"process {found.get('pid')} on {found.get('host')}, started {found.get('started')}"
    return (
        f"{root} is in use by {who}: wait until it ends, end it, or give another folder ({FIELD})."
    )


def _beat(path: Folder, about: dict, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(BEAT_SECONDS):
        count += 1
        with contextlib.suppress(Exception):  # of the store's client; the next one may get through
            _write(path, about, count)


def _write(path: Folder, about: dict, count: int) -> None:
    path.write_text(json.dumps({**about, "count": count}))


def _read(path: Folder) -> dict:
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except (ValueError, FileNotFoundError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else {}
