"""Folders of checkpoints, on a disk or in an object store.

A store (etils paths, gs://BUCKET/PATH) has objects and no folders, writes an object whole or not at
all, and renames nothing. A checkpoint there is complete when orbax has written its commit file,
which comes last.
"""

import importlib
import os
import shutil
from pathlib import Path

from etils import epath

from rljax.reporting.files import json_text, write_json_atomic

STORES = ("gs://",)
CHECKPOINTS_FOLDER, DAMAGED_FOLDER = "checkpoints", "damaged"  # of a workdir
COMMIT_FILE = "commit_success.txt"  # by orbax
FIELD = "config.checkpoint.folder"

Folder = Path | epath.Path


def in_store(folder: str | Folder) -> bool:
    """Whether a folder lies in an object store."""
    return str(folder).startswith(STORES)


def checkpoints_folder(workdir: Path, folder: str) -> Folder:
    """Where the checkpoints of a run are.

    Args:
        workdir: of the run.
        folder: config.checkpoint.folder; "" stands for the one in the workdir.
    """
    return absolute(folder) if folder else workdir / CHECKPOINTS_FOLDER


def damaged_folder(workdir: Path, folder: str) -> Folder:
    """Where damaged checkpoints of a run are set aside, beside the others."""
    return absolute(folder) / ".damaged" if folder else workdir / DAMAGED_FOLDER


def absolute(folder: str | Folder) -> Folder:
    """An absolute path on a disk, or one in a store."""
    return epath.Path(folder) if in_store(folder) else Path(folder).absolute()


def check_folder(folder: str) -> None:
    """Raises ValueError unless a folder of checkpoints can be reached, before anything compiles."""
    if not folder:
        return
    if not in_store(folder):
        raise ValueError(
            f"{folder!r} is no place for checkpoints; allowed are gs://BUCKET/PATH, and '' for "
            f"WORKDIR/{CHECKPOINTS_FOLDER} ({FIELD})."
        )
    if patterns := sorted(set("*?[") & set(folder)):
        raise ValueError(f"{folder!r} has {' '.join(patterns)} in it, which no path may ({FIELD}).")
    if missing := missing_clients():
        raise ValueError(
            f"{folder!r} needs {' and '.join(missing)}, not installed here: "
            f"pip install -e '.[gcs]' ({FIELD})."
        )
    try:
        epath.Path(folder).exists()
    except Exception as error:  # of the store's own client: credentials, network, no such bucket
        raise ValueError(
            f"{folder!r} cannot be reached: {type(error).__name__}: {error} ({FIELD})."
        ) from error


def missing_clients() -> list[str]:
    """Packages that etils and orbax need for gs:// paths and that are not installed."""
    missing = []
    for module, package in (("gcsfs", "gcsfs"), ("google.cloud.storage", "google-cloud-storage")):
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(package)
    return missing


def saved_steps(folder: Folder) -> list[int]:
    """The complete checkpoints of a stage, in order."""
    if not folder.exists():
        return []
    steps = [path for path in folder.iterdir() if path.name.isdigit()]
    if in_store(folder):
        steps = [path for path in steps if (path / COMMIT_FILE).exists()]
    return sorted(int(path.name) for path in steps)


def unfinished(folder: Folder) -> list[Folder]:
    """What is being written in the folder of a stage."""
    if not in_store(folder):
        return list(folder.glob("*.orbax-checkpoint-tmp*"))
    steps = [path for path in folder.iterdir() if path.name.isdigit()]
    return [path for path in steps if not (path / COMMIT_FILE).exists()]


def files_under(folder: Folder) -> dict[str, Folder]:
    """All files in a folder, by name relative to it."""
    if not in_store(folder):
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path for path in found}
    found = {}
    for root, _, names in folder.walk():
        for name in names:
            path = epath.Path(root) / name
            found[str(path).removeprefix(f"{folder}/")] = path
    return dict(sorted(found.items()))


def stamp(path: Folder) -> tuple:
    """What tells one state of a file from another, without reading it."""
    if in_store(path):
        about = path.stat()
        return (str(path), about.length, about.mtime)
    s = path.stat()
    return (str(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)


def write_json(path: Folder, content: object) -> None:
    """Writes a JSON file whole or not at all."""
    if in_store(path):
        path.write_text(json_text(content))
    else:
        write_json_atomic(path, content)


def move(source: Folder, target: Folder) -> None:
    """Moves a folder; one that is at the target is replaced."""
    if not in_store(source):
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(os.fspath(source), target)
        return
    if target.exists():
        target.rmtree()
    for name, path in files_under(source).items():
        copy(path, target / name)
    source.rmtree()


def copy(source: Folder, target: Folder) -> None:
    """Copies a file; the folders above it are made where there are such."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new)
