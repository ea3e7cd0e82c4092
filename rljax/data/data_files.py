"""The files that a path of the config means: a file, a folder, a pattern as data/*.jsonl."""

import glob
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from rljax.errors import blamed

Record = dict[str, Any]

# Kind of a source -> how its files are called in a folder.
SUFFIXES = {"jsonl": ".jsonl", "parquet": ".parquet"}


def kind_of_files(path: str | os.PathLike[str], field: str) -> str:
    """The kind of the files that are meant, where their names alone say it.

    Args:
        path: a file, a folder or a pattern, as for `data_files`. A file is Parquet if its name ends
            so, else JSONL; in a folder, names that end otherwise are passed over.
        field: the config field or flag, for errors.

    Returns:
        "jsonl" or "parquet"; of a path where nothing is, the kind that its own name says.

    Raises:
        ValueError: for a folder without data files, or files of both kinds.
    """
    text = os.fspath(path)
    if os.path.isdir(text):
        names = [name for name in os.listdir(text) if name.endswith(tuple(SUFFIXES.values()))]
    elif os.path.isfile(text):
        names = [text]
    else:
        found = glob.glob(text, recursive=True)
        names = [name for name in found if os.path.isfile(name)] or [text]
    kinds = {"parquet" if name.endswith(SUFFIXES["parquet"]) else "jsonl" for name in names}
    if len(kinds) == 1:
        return kinds.pop()
    what = "both .jsonl and .parquet files" if kinds else "no .jsonl or .parquet file"
    raise ValueError(
        f"{text!r} holds {what}; give a file, a folder or a pattern of one kind ({field})."
    )


def data_files(path: str | os.PathLike[str], kind: str, field: str) -> dict[str, str]:
    """The files that are meant, in the order of their names.

    Args:
        path: a file; a folder, whose files with the kind's suffix are meant; or a pattern with `*`,
            `?`, `[...]` or `**`.
        kind: "jsonl" or "parquet".
        field: the config field, for errors.

    Returns:
        Paths as `path` begins, by their names relative to the folder or to what stands before the
        pattern.

    Raises:
        ValueError: if there is none.
    """
    text = os.fspath(path)
    with blamed(repr(text), OSError, ValueError, field=field):
        if Path(text).is_file():
            return {Path(text).name: text}
        folder = bool(text) and Path(text).is_dir()
    if folder:
        root = text
        found = glob.glob(f"{glob.escape(text)}/*{SUFFIXES[kind]}")
    else:
        found = glob.glob(text, recursive=True)
        root = os.path.dirname(text[: next(iter(_magic(text)), len(text))])
    files = sorted(file for file in found if os.path.isfile(file))
    if files:
        return {os.path.relpath(file, root or os.curdir): file for file in files}
    what = f"No {SUFFIXES[kind]} file in the folder" if folder else "No file"
    raise ValueError(
        f"{what} {text!r} (from {os.getcwd()!r}); give an existing {kind} file, a folder of them "
        f"or a pattern ({field})."
    )


def _magic(text: str) -> list[int]:
    """Places of what makes a pattern."""
    return [place for place, letter in enumerate(text) if letter in "*?["]


class SeveralFiles(Sequence[Record]):
    """The records of several sources, one after the other."""

    def __init__(self, sources: Sequence[Any]) -> None:
        self._sources = list(sources)
        self._ends = list(accumulate(map(len, self._sources)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        source, inside = self._find(index)
        return source[inside]

    def place(self, index: int) -> str:
        """File and line or row of a record."""
        source, inside = self._find(index)
        return source.place(inside)

    def _find(self, index: int) -> tuple[Any, int]:
        index = range(len(self))[index]
        number = bisect_right(self._ends, index)
        return self._sources[number], index - (self._ends[number - 1] if number else 0)
