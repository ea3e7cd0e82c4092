"""Compares methods over seeds on a small exact task.

    python launch/compare.py --task=sort --methods=grpo,rloo,dapo --seeds=8 --workdir=DIR

Every method runs all seeds side by side in one compiled program, from the same warmed-up policy,
and within the same budget.
DIR then holds table.md, table.csv, curves.svg and report.html. The same command goes on where it
was interrupted and reads what is finished; more methods can be added to a DIR.
"""

import argparse
import os
import sys
from typing import Any

from rljax.commands.cores import use_all_cores
from rljax.commands.parser import Parser, named, number, numbers, path, whole, words
from rljax.commands.paths import check_folder
from rljax.commands.run import run
from rljax.processes.identity import check_alone


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    add = made.add_argument
    add("--task", metavar="TASK", help="of the config, such as sort")
    add("--methods", type=words, metavar="A,B", help="what is compared")
    add("--seeds", type=whole(1, 4096), default=8, metavar="N", help="seeds 0..N-1 (8)")
    add("--workdir", type=path, metavar="DIR", help="where runs and tables are written")
    add(
        "--sweep",
        default="",
        metavar="FILE",
        help="a file with sweep(), which yields {'rl.objective.clip_high': 0.28, ...}; all of its "
        "cells run in the same program",
    )
    add("--baseline", default="", metavar="NAME", help="what others are compared with (the first)")
    add(
        "--threshold",
        type=number(0.0, 1.0),
        default=0.8,
        metavar="SHARE",
        help="held-out accuracy whose cost is reported (0.8)",
    )
    add(
        "--config",
        type=named,
        default="configs/compare.py",
        metavar="FILE",
        help="whose arguments are TASK/METHOD (configs/compare.py)",
    )
    add(
        "--budget",
        type=named,
        default="updates",
        metavar="AXIS[:AMOUNT]",
        help="updates, tokens or seconds: each seed of every method may spend what the baseline "
        "spends in the steps of its config, or AMOUNT (updates)",
    )
    add(
        "--also",
        choices=("updates", "tokens", "seconds"),
        default="",
        metavar="AXIS",
        help="the same runs compared once more in WORKDIR/AXIS, at as much of it as all have spent",
    )
    add(
        "--tune",
        type=numbers,
        default=(),
        metavar="1e-4,3e-4",
        help="the learning rate of each method is the best of these on seeds that are not reported",
    )
    add("--tune-seeds", type=whole(1, 4096), default=4, metavar="N", help="of --tune (4)")
    add("--smoke", action="store_true", help="two seeds and two steps, in about two minutes")
    add = made.add_argument_group("instead of a comparison").add_argument
    add("--time", type=words, metavar="1,8", help="what a step costs with so many seeds at once")
    add("--summary", type=words, metavar="DIR,DIR", help="what finished comparisons found, alone")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), command, arguments)


def command(options: argparse.Namespace) -> None:
    """Runs what is missing and writes the comparison."""
    check_alone("launch/compare.py", os.environ)
    if options.summary:
        return summarise(options)
    for name in ("task", "methods") if options.time else ("task", "methods", "workdir"):
        if not getattr(options, name):
            raise ValueError(f"--{name} is missing; see --help (--{name}).")
    if options.workdir is not None:
        check_folder(options.workdir, "--workdir")
    use_all_cores()
    return time_seeds(options) if options.time else compare(options)


def compare(options: argparse.Namespace) -> None:
    """Runs and compares."""
    from rljax.comparison import compare

    compare.compare(asked(compare, options))


def time_seeds(options: argparse.Namespace) -> None:
    """Times steps of each method with so many seeds side by side."""
    from rljax.benchmarks.side_by_side import print_side_by_side, time_side_by_side
    from rljax.comparison import compare

    for word in options.time:
        if not word.isdecimal() or not 1 <= int(word) <= 4096:
            raise ValueError(f"--time must be counts of seeds in 1..4096, got {word!r} (--time)")
    given = asked(compare, options)
    for method in given.methods:
        print(f"{given.task}/{method}")
        config = compare.alone(given.load(method))
        print_side_by_side(time_side_by_side(config, [int(word) for word in options.time]))


def summarise(options: argparse.Namespace) -> None:
    """Prints what finished comparisons have found."""
    from rljax import comparison

    print(comparison.summarise([path(folder) for folder in options.summary]))


def asked(module: Any, options: argparse.Namespace) -> Any:
    """What the flags ask for, as a `Comparison`."""
    return module.Comparison(
        task=options.task,
        methods=options.methods,
        seeds=options.seeds,
        workdir=options.workdir,
        config=options.config,
        overrides=options.overrides,
        sweep=options.sweep,
        baseline=options.baseline,
        threshold=options.threshold,
        budget=options.budget,
        also=options.also,
        rates=options.tune,
        tuning_seeds=options.tune_seeds,
        smoke=options.smoke,
    )


if __name__ == "__main__":
    sys.exit(main())
