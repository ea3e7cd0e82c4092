"""Compares ways to learn a chain of thought with and without a verifier, on modular arithmetic.

    python launch/latent.py --task=short --seeds=5 --workdir=runs/latent-short
    python launch/latent.py --task=long --seeds=5 --workdir=runs/latent-long
    python launch/latent.py --task=long --smoke --workdir=DIR          # two steps of each

A policy is warmed up once, and every method starts from it with every seed. WORKDIR then holds
table.md and table.json: held-out accuracy, the likelihood of the held-out reference answers behind
four sampled chains of thought, and whether orderings that papers claim hold. The same command goes
on where it was interrupted.
"""

import argparse
import os
import sys

from rljax.commands.cores import use_all_cores
from rljax.commands.parser import Parser, path, whole, words
from rljax.commands.paths import check_folder
from rljax.commands.run import run
from rljax.processes.identity import check_alone


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--task", required=True, metavar="TASK", help="short (one digit) or long (32 digits)")
    add("--methods", type=words, default=(), metavar="A,B", help="what is compared (all)")
    add("--seeds", type=whole(1, 4096), default=5, metavar="N", help="seeds 0..N-1 (5)")
    add("--workdir", type=path, required=True, metavar="DIR", help="where runs and tables go")
    add("--smoke", action="store_true", help="two steps and two seeds of each")
    return made


def latent(options: argparse.Namespace) -> None:
    """Runs what is missing and writes the table."""
    check_alone("launch/latent.py", os.environ)
    check_folder(options.workdir, "--workdir")
    use_all_cores()

    from rljax.comparison.from_start.run import asked_for, run_table
    from rljax.comparison.latent.study import LATENT

    print(run_table(LATENT, asked_for(LATENT, options), lambda line: print(line, flush=True)))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), latent, arguments)


if __name__ == "__main__":
    sys.exit(main())
