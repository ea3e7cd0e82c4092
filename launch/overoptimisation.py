"""Where a reward model's reward parts from a gold one, as the policy leaves its start.

    python launch/overoptimisation.py WORKDIR
    python launch/overoptimisation.py WORKDIR ... --stage=ppo --gold=reward/exact_match --out=FILE

Reads what a run has logged: the proxy that it was trained on, a gold reward that trained nothing,
and the KL to the reference. Prints a table over d = sqrt(KL), the peak of the gold reward, and the
fit R(d) = R(0) + d (a - b log d) of both (arXiv:2210.10760).
"""

import argparse
import sys
from pathlib import Path

from rljax.commands.parser import Parser, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.reporting.files import json_text, write_text_atomic
from rljax.reporting.overoptimisation import curve_of, figures
from rljax.reporting.run_data import read_runs


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("workdirs", nargs="+", type=path, metavar="WORKDIR", help="folder of a run")
    add("--stage", default="", metavar="NAME", help="of the runs (the last one)")
    add("--proxy", default="reward/reward_model", metavar="METRIC", help="what it is trained on")
    add("--gold", default="accuracy", metavar="METRIC", help="what it should be judged by")
    add("--window", type=whole(1), default=10, metavar="N", help="steps of a point (10)")
    add("--out", type=path, metavar="FILE", help="also writes everything there, as JSON")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    return made


def show(options: argparse.Namespace) -> None:
    """Reads the runs and prints their curves."""
    if options.out is not None:
        check_file(options.out, "--out", overwrite=options.overwrite)
    found = {}
    for one in read_runs(options.workdirs):
        name = options.stage or next(reversed(one.stages), "")
        if name not in one.stages:
            known = ", ".join(one.stages) or "none"
            raise ValueError(f"{one.path} has no stage {name!r}; its stages: {known} (--stage).")
        where = f"Stage {name!r} of {one.path}"
        points = curve_of(one.stages[name], options.proxy, options.gold, options.window, where)
        found[one.name] = figures(points)
        print_table(f"{one.name}, {name}", found[one.name])
    if options.out is not None:
        write_text_atomic(Path(options.out), json_text(found))
        print(f"wrote {options.out}")


def print_table(title: str, said: dict) -> None:
    """Prints the points of a curve, its peak and its fits."""
    print(f"{title}\n  step     KL      d   proxy    gold")
    for row in said["points"]:
        mark = "  <- peak of gold" if row == said["peak"] else ""
        numbers = f"{row['kl']:6.3f} {row['distance']:6.3f} {row['proxy']:7.3f} {row['gold']:7.3f}"
        print(f"{row['steps']:6.0f} {numbers}{mark}")
    print(f"gold lost since its peak: {said['gold_lost']:.3f}; proxy: {said['proxy_gained']:+.3f}")
    for name, fit in said["fits"].items():
        if fit is not None:
            start, slope, bend = (f"{value:.3f}" for value in fit.values())
            print(f"{name}: R(d) = {start} + d ({slope} - {bend} log d)")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), show, arguments)


if __name__ == "__main__":
    sys.exit(main())
