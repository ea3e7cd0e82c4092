"""What a program may use, what is run, and how it ended."""

import math
from collections.abc import Callable
from typing import NamedTuple

# How a program can end. The first means exit status 0 and nothing else.
REASONS = (
    *("ok", "error", "timeout", "memory", "output", "files", "processes", "killed"),
    "stopped",  # another program of the same run ended, and this one with it
)


class Limits(NamedTuple):
    """Limits of one program; those of the whole tree are measured while it runs.

    Attributes:
        seconds: wall time; CPU time of each process is limited to a second more.
        memory_mb: of each process (kernel), and of all together (measured; pages that processes
            share count in each).
        output_kb: standard output and error together.
        files_mb: all files together, and each one (kernel).
        files: files and folders in the program's own folder.
        processes: processes and threads together.
        open_files: descriptors of a process.
    """

    seconds: float = 10.0
    memory_mb: int = 512
    output_kb: int = 1024
    files_mb: int = 64
    files: int = 256
    processes: int = 32
    open_files: int = 64


# Smallest and largest value of each, and why.
_RANGES: dict[str, tuple[float, float, str]] = {
    "seconds": (0.01, 86_400, "wall time of one program"),
    "memory_mb": (64, 2**20, "an interpreter alone takes some 30 MB"),
    "output_kb": (1, 2**18, "it is kept in memory"),
    "files_mb": (1, 2**20, "the program itself is a file"),
    "files": (8, 10**6, "they are counted while it runs"),
    "processes": (1, 4096, "the first one counts"),
    "open_files": (16, 2**16, "an interpreter needs some"),
}


def checked_limits(limits: Limits, field: Callable[[str], str]) -> Limits:
    """The limits, if each is a number in its range.

    Args:
        limits: any.
        field: name of a limit -> the config field or flag that sets it, for errors.

    Raises:
        ValueError: for the first that is not.
    """
    for name, value in limits._asdict().items():
        low, high, why = _RANGES[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = name == "seconds" or (number and math.isfinite(value) and value == int(value))
        if not (number and whole and low <= value <= high):
            kind = "a number" if name == "seconds" else "a whole number"
            raise ValueError(
                f"{name} must be {kind} in [{low:g}, {high:g}] ({why}), got {value!r} "
                f"({field(name)})."
            )
    return limits


class Program(NamedTuple):
    """One program.

    Attributes:
        argv: its command, the first word an absolute path; "{folder}" is its own folder.
        files: written into its own folder before it starts: name -> content.
        stdin: its standard input.
        reserves: its runtime reserves address space that it never uses (node, java). Then only
            memory that can be written to is limited by the kernel.
    """

    argv: tuple[str, ...]
    files: dict[str, bytes]
    stdin: bytes = b""
    reserves: bool = False


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        reason: of `REASONS`.
        exit_code: its exit status; minus the signal that ended it; None where it was ended by us.
        seconds: wall time.
        stdout, stderr: the bytes that it wrote, up to the limit.
        report: the bytes that it wrote to descriptor 5; see `rljax.rewards.sandbox.programs`.
    """

    reason: str
    exit_code: int | None
    seconds: float
    stdout: bytes
    stderr: bytes
    report: bytes = b""
