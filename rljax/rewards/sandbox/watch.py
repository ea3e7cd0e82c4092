"""What the tree of a program uses, read from /proc and from its folder while it runs."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from rljax.rewards.sandbox.descendants import children
from rljax.rewards.sandbox.limits import Limits


class Use(NamedTuple):
    """What a tree of processes uses at one moment."""

    memory: int  # bytes of its own, not of files; shared pages count in each process
    tasks: int  # processes and threads
    file_bytes: int  # on disk, those that are deleted and still open included
    files: int


def program_tree(keeper: int, helpers: int) -> list[int]:
    """The processes of a program.

    Args:
        keeper: the process of ours at the top.
        helpers: how many of ours, or of a launcher, stand in a line above the program.
    """
    level = [keeper]
    for _ in range(helpers):
        level = [child for process in level for child in children(process)]
    found = []
    while level:
        found.append(level.pop())
        level += children(found[-1])
    return found


def use_of(keeper: int, helpers: int, folder: str, limits: Limits) -> Use:
    """What a program uses.

    Args:
        keeper: the process of ours at the top.
        helpers: see `program_tree`.
        folder: its own.
        limits: counting of files ends just beyond theirs.
    """
    memory = tasks = deleted = 0
    for process in program_tree(keeper, helpers):
        with contextlib.suppress(OSError):
            memory += _memory(process)
            tasks += len(os.listdir(f"/proc/{process}/task"))
        deleted += sum(_deleted_files(process))
    size, count = _folder_use(folder, limits.files)
    return Use(memory, tasks, size + deleted, count)


def beyond(use: Use, limits: Limits) -> str | None:
    """The reason to end a program; None if it keeps its limits."""
    if use.memory > limits.memory_mb * 2**20:
        return "memory"
    if use.tasks > limits.processes:
        return "processes"
    if use.file_bytes > limits.files_mb * 2**20 or use.files > limits.files:
        return "files"
    return None


def _memory(process: int) -> int:
    """Anonymous and shared memory, in bytes."""
    with open(f"/proc/{process}/status") as file:
        lines = [line.split() for line in file if line.startswith(("RssAnon", "RssShmem"))]
    return sum(int(words[1]) for words in lines) * 1024


def _deleted_files(process: int) -> Iterator[int]:
    """Sizes on disk of files that a process holds open and that have no name any more."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{process}/fd/{name}")
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                    yield found.st_blocks * 512


def _folder_use(folder: str, most: int) -> tuple[int, int]:
    """(bytes on disk, files and folders) below a folder; links are not followed."""
    size, count, waiting = 0, 0, [folder]
    while waiting and count <= most:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        size += found.st_blocks * 512
                        if stat.S_ISDIR(found.st_mode):
                            waiting.append(entry.path)
                    if count > most:
                        break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # a path that is too long, or a folder that is closed to us
            return size, most + 1
    return size, count
