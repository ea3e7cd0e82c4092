"""Runs a command as several processes on this machine, as a pod does on many.

    python launch/hosts.py --processes=2 --devices=2 -- launch/train.py --config=FILE --workdir=DIR

Every process is told who it is. Lines come with the number of their process. The exit status is one
for all (rljax/commands/statuses.py).
"""

import argparse
import os
import sys
from pathlib import Path

from rljax.commands.parser import Parser, number, whole
from rljax.commands.run import run
from rljax.errors import shown
from rljax.processes.identity import LAST_PORT
from rljax.processes.local import Plan, free_ports, run_locally

MOST = 256  # each is a Python with a jax of its own


def parser() -> Parser:
    """The parser of all flags, which stand before --."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--processes", type=whole(1, MOST), default=2, help="how many are started (2)")
    add(
        "--devices",
        type=whole(1, 4096),
        help="fake CPU devices of each; without it the machine's own, one GPU for each process",
    )
    add(
        "--port",
        type=whole(1, LAST_PORT - 1),
        help="of jax's coordinator, and the next one for the roll call (two that are free)",
    )
    add(
        "--wait-seconds",
        type=number(0, 86_400),
        default=75.0,
        help="from the first failure until what still runs is killed (75)",
    )
    return made


def start(options: argparse.Namespace, command: list[str]) -> int:
    """Starts the processes and waits for them."""
    if not command:
        raise ValueError(
            "The command is missing; it stands after --: python launch/hosts.py --processes=2 -- "
            "launch/train.py ... (--)."
        )
    if command[0].endswith(".py"):
        if not Path(command[0]).is_file():
            raise ValueError(f"There is no file {shown(command[0])} to start (--).")
        command = [sys.executable, *command]
    port = options.port or free_ports()
    plan = Plan(command, options.processes, options.devices, port, options.wait_seconds)
    return run_locally(plan, os.environ)


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The flags of this command, and the command after --, [] where there is no --."""
    if "--" in words:
        end = words.index("--")
        return words[:end], words[end + 1 :]
    # Without -- the flags end where a file to start stands; its own are not blamed.
    files = [place for place, word in enumerate(words) if word.endswith(".py") and word[0] != "-"]
    return words[: files[0]] if files else words, []


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    own, command = split(words)
    return run(parser(), lambda options: start(options, command), own)


if __name__ == "__main__":
    sys.exit(main())
