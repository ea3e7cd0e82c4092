"""Compares policy gradients of masked diffusion models, on countdown and 4x4 sudoku.

    python launch/diffusion.py --task=countdown --seeds=5 --workdir=runs/diffusion-countdown
    python launch/diffusion.py --task=sudoku --seeds=5 --workdir=runs/diffusion-sudoku
    python launch/diffusion.py --task=sudoku --smoke --workdir=DIR     # two steps of each

A small network that sees both ways is supervised once, and every method starts from it with every
seed. WORKDIR then holds table.md and table.json: held-out accuracy, sampled and greedy, under the
decoding of training and under others, the untrained and the supervised policy as fixed baselines,
the share of degenerate samples, and whether orderings that papers claim hold. The same command goes
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
    add("--task", required=True, metavar="TASK", help="countdown or sudoku")
    add("--methods", type=words, default=(), metavar="A,B", help="what is compared (all)")
    add("--seeds", type=whole(1, 4096), default=5, metavar="N", help="seeds 0..N-1 (5)")
    add("--workdir", type=path, required=True, metavar="DIR", help="where runs and tables go")
    add("--smoke", action="store_true", help="two steps and two seeds of each")
    return made


def diffusion(options: argparse.Namespace) -> None:
    """Runs what is missing and writes the table."""
    check_alone("launch/diffusion.py", os.environ)
    check_folder(options.workdir, "--workdir")
    use_all_cores()

    from rljax.comparison.diffusion.study import study_of
    from rljax.comparison.from_start.run import asked_for, run_table

    study = study_of(options.task)
    print(run_table(study, asked_for(study, options), lambda line: print(line, flush=True)))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), diffusion, arguments)


if __name__ == "__main__":
    sys.exit(main())
