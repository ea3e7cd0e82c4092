"""Files and folders that a command will write: looked at before anything is loaded or compiled."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def check_folder(folder: Path, flag: str) -> None:
    """Raises ValueError unless a folder is there to write in, or can be made.

    Args:
        folder: that will be written.
        flag: that names it, such as "--workdir".
    """
    with _said(folder, flag):
        ancestor = _nearest(folder)
        is_folder = ancestor.is_dir()
    if not is_folder:
        link = "a link to nothing" if ancestor.is_symlink() else "no folder"
        raise ValueError(f"Cannot write {folder}: {ancestor} is {link} ({flag}).")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise ValueError(f"Cannot write {folder}: {ancestor} may not be written ({flag}).")


def check_file(file: Path, flag: str, *, overwrite: bool = True) -> None:
    """Raises ValueError unless a file can be written; its folder must be there.

    Args:
        file: that will be written.
        flag: that names it.
        overwrite: whether it may exist.
    """
    with _said(file, flag):
        exists, is_folder = file.exists(), file.is_dir()
    if is_folder:
        raise ValueError(f"Cannot write {file}: it is a folder ({flag}).")
    if exists and not overwrite:
        raise ValueError(f"{file} exists; --overwrite replaces it ({flag}).")
    if not file.parent.is_dir():
        raise ValueError(f"There is no folder {str(file.parent)!r} for {file.name} ({flag}).")
    if not os.access(file if exists else file.parent, os.W_OK):
        raise ValueError(f"Cannot write {file}: it may not be written ({flag}).")


@contextlib.contextmanager
def _said(path: Path, flag: str) -> Iterator[None]:
    """What the system says of a path, as a ValueError that names it."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror} ({flag}).") from error


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there; a link counts as there.

    Raises:
        OSError: for a name that no folder can have, or that may not be looked at.
    """
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(folder.parent)
    return folder
