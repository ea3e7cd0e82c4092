"""A command from its words to its exit status.

What a user can mend is one line on standard error and status 1: bad input (ValueError), a run that
stopped itself (StoppedError), a file that cannot be read or written (OSError). Anything else is our
own fault: it keeps its traceback, and one more line says so.
"""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import rljax
from rljax.commands.parser import Parser
from rljax.errors import StoppedError, reason

DONE, FAILED, FAULT, INTERRUPTED, CLOSED = 0, 1, 70, 130, 141

# What the system refuses whatever the code does.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.EAGAIN)

# A ValueError that these raise by themselves is about our arrays, not about input.
NUMERICAL = ("jax", "jaxlib", "numpy", "optax", "flax")


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
        The exit status: 0 done, 1 refused or failed, 70 a fault of rljax, 130 interrupted (Ctrl-C),
        141 nobody reads the output any more.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    trace = "--traceback" in words or bool(os.environ.get("RLJAX_TRACEBACK"))
    if {"-h", "--help"} & set(words):
        parser.print_help()
        return DONE
    options = argparse.Namespace()
    try:
        options = parser.read(words)
        status = body(options)
        sys.stdout.flush()
        return status or DONE
    except BrokenPipeError:
        return _closed()
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED, trace)
    except (ValueError, StoppedError) as error:
        if _numerical(error):
            return _fault()
        return _failed(f"error: {error}", FAILED, trace)
    except OSError as error:
        line = _refused(error, options)
        return _fault() if line is None else _failed(f"error: {line}", FAILED, trace)
    except MemoryError:
        return _failed("error: the memory of this machine is too small for this", FAILED, trace)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            line = f"error: the memory of the device is too small: {reason(error)[:300]}"
            return _failed(line, FAILED, trace)
        return _fault()


def _failed(line: str, status: int, trace: bool) -> int:
    if trace:
        traceback.print_exc()
    print(line, file=sys.stderr)
    return status


def _fault() -> int:
    traceback.print_exc()
    print(
        f"This is a fault of rljax {rljax.__version__}, not of what was given: please report it "
        "with the lines above.",
        file=sys.stderr,
    )
    return FAULT


def _closed() -> int:
    """The reader of a pipe has gone; what Python would still flush must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED


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
    """Flags that name files and folders, with these."""
    for name, value in vars(options).items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, Path):
                yield f"--{name.replace('_', '-')}", each


def _belongs(file: Path, given: Path) -> bool:
    """Whether a file is a given one, lies in it, or is a folder above it."""
    file, given = Path(os.path.abspath(file)), Path(os.path.abspath(given))
    return file.is_relative_to(given) or given.is_relative_to(file)
