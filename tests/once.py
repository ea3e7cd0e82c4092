"""Work that several processes of a test session need, and that the first one does for all."""

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def once(folder: Path, name: str, make: Callable[[], T]) -> T:
    """What `make()` returns, called by one of the processes that share a folder.

    Processes that ask meanwhile wait. If `make` raises, the next one that asks tries again.

    Args:
        folder: shared by the processes; the value is kept there.
        name: of the value, different for everything that is made in this folder.
        make: its value must survive pickling.
    """
    path = folder / f"{name}.pickle"
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not path.exists():
            unfinished = folder / f"{name}.unfinished"
            unfinished.write_bytes(pickle.dumps(make()))
            unfinished.rename(path)
        return pickle.loads(path.read_bytes())
