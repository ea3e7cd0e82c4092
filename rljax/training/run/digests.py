"""SHA-256 of files: what a checkpoint holds, and whether it still does.

    python -m rljax.training.run.digests CHECKPOINTS/STAGE/STEP    # writes digests.json anew

A checkpoint carries the digests of its own files, written before the checkpoint gets its name. So
a bit that flips later is found, and a checkpoint without digests is no whole one.
"""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rljax.parallel.host import to_host
from rljax.training.run.storage import Folder, files_under, stamp, write_json

DIGESTS_FILE = "digests.json"

# In the folder of a step; orbax writes both once more as it gives the checkpoint its name.
WRITTEN_LAST = ("_CHECKPOINT_METADATA", "commit_success.txt")

# Hashing releases the interpreter's lock.
THREADS = min(8, os.cpu_count() or 1)

BLOCK = 2**22  # bytes read at once

PARAMETERS = "parameters_sha256"  # entry of the last checkpoint's note, and of summary.json

Digest = dict[str, Any]  # {"sha256": 64 hex digits, "bytes": size}


def file_digest(path: Folder, length: int | None = None) -> Digest:
    """SHA-256 and size of a file or its first `length` bytes; of nothing where there is none."""
    digest, size = hashlib.sha256(), 0
    if path.exists():
        with path.open("rb") as file:
            while block := file.read(BLOCK if length is None else min(BLOCK, length - size)):
                digest.update(block)
                size += len(block)
    return {"sha256": digest.hexdigest(), "bytes": size}


def file_digests(paths: Iterable[Folder]) -> list[Digest]:
    """The digests of several files, in their order."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(file_digest, paths))


def parameters_digest(params: Any) -> str:
    """SHA-256 of a pytree of arrays: paths, types, shapes and bytes, wherever they lie.

    One array after the other is read, and a quantised one as its parts.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(to_host(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_digests(step: Folder) -> None:
    """Writes digests.json of all files in the folder of one checkpoint."""
    names = [name for name in files_under(step) if name not in (DIGESTS_FILE, *WRITTEN_LAST)]
    found = file_digests(step / name for name in names)
    write_json(step / DIGESTS_FILE, dict(zip(names, found, strict=True)))


def damage(step: Folder) -> str:
    """What is wrong with the files of a checkpoint; "" if nothing.

    Every file is read once, about 2 GB a second on one core. A folder that this process has
    checked is not read again as long as sizes and times of its files stay.
    """
    if not (step / DIGESTS_FILE).is_file():
        return (
            f"{DIGESTS_FILE} is gone, or an older version wrote the checkpoint; if you trust it, "
            f"run python -m rljax.training.run.digests {step}"
        )
    return _damage(step, tuple(stamp(path) for path in files_under(step).values()))


@functools.lru_cache(maxsize=64)
def _damage(step: Folder, state: tuple) -> str:
    """See `damage`; `state` tells one state of the folder from another."""
    try:
        expected = _read(step / DIGESTS_FILE)
    except ValueError as error:  # also text that is no UTF-8
        return f"{DIGESTS_FILE} cannot be read ({error})"
    for name in expected:
        if not (step / name).is_file():
            return f"{name} is gone"
    found = file_digests(step / name for name in expected)
    for (name, wanted), digest in zip(expected.items(), found, strict=True):
        if digest["bytes"] != wanted.get("bytes"):
            return f"{name} has {digest['bytes']} bytes instead of {wanted.get('bytes')}"
        if digest["sha256"] != wanted.get("sha256"):
            return f"{name} has another content than was written"
    return ""


def _read(path: Folder) -> dict[str, Digest]:
    found = json.loads(path.read_bytes())
    whole = isinstance(found, dict) and found and all(isinstance(d, dict) for d in found.values())
    if not whole:
        raise ValueError("it holds no table of files")
    return found


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        write_digests(Path(folder))
