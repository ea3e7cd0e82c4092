"""A command from its words to its exit status.

What a user can mend is one line on standard error and status 1: bad input (ValueError), a run that
stopped itself (StoppedError), a file that cannot be read or written (OSError). What machines did is
one line too, and status 75: start again. Anything else is our own fault: it keeps its traceback,
and one more line says so. statuses.py has the table.
"""

import argparse
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import rljax
from rljax.commands.parser import Parser
from rljax.commands.statuses import Status
from rljax.errors import StoppedError, SystemFailure, reason

# What the system refuses whatever the code does.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.EAGAIN)

# A ValueError that these raise by themselves is about our arrays, not about input.
NUMERICAL = ("jax", "jaxlib", "numpy", "optax", "flax")

# What jax says of connections and devices that failed, as RuntimeError or ValueError; an error of
# ours may say before it what was being done, such as the writing of a checkpoint.
OF_MACHINES = re.compile(
    r"(.*: )?(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|DATA_LOSS|CANCELLED): |"
    r".*\bGloo [\w-]+ failed: |.*\bNCCL\b.*(remote process exited|network error)"
)


def run(
    parser: Parser,
    body: Callable[[argparse.Namespace], int | None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Reads the words of a command and does what they say.

    Args:
        parser: of its flags.
        body: what it does; returns an exit status, None for 0.
        arguments: by default those of the process.

    Returns:
        The exit status (statuses.py).
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    trace = "--traceback" in words or bool(os.environ.get("RLJAX_TRACEBACK"))
    if {"-h", "--help"} & set(words):
        parser.print_help()
        return Status.DONE
    options = argparse.Namespace()
    try:
        options = parser.read(words)
        status = body(options)
        sys.stdout.flush()
        return status or Status.DONE
    except (Exception, KeyboardInterrupt) as error:
        status, line = told(error, options)
        if status == Status.CLOSED:
            return _closed()
        if trace or status == Status.FAULT:
            traceback.print_exc()
        print(line, file=sys.stderr)
        return status


def told(error: BaseException, options: argparse.Namespace | None = None) -> tuple[Status, str]:
    """The exit status of a command that ends with an exception, and the line that says why.

    Args:
        error: that ended it.
        options: of the command; paths among them explain errors of files.
    """
    if isinstance(error, KeyboardInterrupt):
        return Status.INTERRUPTED, "interrupted"
    if isinstance(error, BrokenPipeError):
        return Status.CLOSED, "nobody reads the output"
    if isinstance(error, SystemFailure):
        return Status.RESTART, f"error: {error}"
    if isinstance(error, RuntimeError | ValueError) and OF_MACHINES.match(str(error)):
        return Status.RESTART, f"error: devices or their network failed: {reason(error)}"
    if isinstance(error, ValueError | StoppedError) and not _numerical(error):
        return Status.FAILED, f"error: {error}"
    if isinstance(error, OSError):
        if line := _refused(error, options or argparse.Namespace()):
            return Status.FAILED, f"error: {line}"
    elif isinstance(error, MemoryError):
        return Status.FAILED, "error: the memory of this machine is too small for this"
    elif "RESOURCE_EXHAUSTED" in str(error):
        line = f"error: the memory of the device is too small: {reason(error)[:300]}"
        return Status.FAILED, line
    return Status.FAULT, (
        f"This is a fault of rljax {rljax.__version__}, not of what was given: please report it "
        "with the lines above."
    )


def _closed() -> int:
    """The reader of a pipe has gone; what Python would still flush must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Status.CLOSED


def _numerical(error: BaseException) -> bool:
    """Whether an exception was raised inside a library of arrays."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    parts = Path(last.filename).parts
    return "site-packages" in parts and parts[parts.index("site-packages") + 1] in NUMERICAL


def _refused(error: OSError, options: argparse.Namespace) -> str | None:
    """What the system refused, with the flag that names the place; None: not the user's matter."""
    said = error.strerror or reason(error)
    if error.filename is None:
        if error.errno not in REFUSALS:
            return None
        written = [f"{name}={value}" for name, value in _paths(options)]
        return f"{said} ({', '.join(written)})" if written else said
    flags = [name for name, value in _paths(options) if _belongs(Path(str(error.filename)), value)]
    return f"{error.filename}: {said}" + (f" ({flags[0]})" if flags else "")


def _paths(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Flags and words that name files and folders, with these."""
    words = getattr(options, "words", {})
    for name, value in vars(options).items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, Path):
                yield words.get(name, f"--{name.replace('_', '-')}"), each


def _belongs(file: Path, given: Path) -> bool:
    """Whether a file is a given one, lies in it, or is a folder above it."""
    file, given = Path(os.path.abspath(file)), Path(os.path.abspath(given))
    return file.is_relative_to(given) or given.is_relative_to(file)
