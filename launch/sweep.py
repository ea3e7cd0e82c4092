"""Runs a config many times, with the overrides that a sweep file yields.

    python launch/sweep.py --config=FILE[:ARG] --sweep=SWEEP.py --workdir=DIR --parallel=2

SWEEP.py has a function sweep() that yields mappings "a.b" -> value; each is a cell, a run of its
own in DIR/cells/NAME. All of them are checked before the first one starts. A failed cell is said,
and the others go on; the exit status is then 1. The same command goes on where it was interrupted,
tries failed cells again, and runs what the sweep file has more by now.
DIR then holds report.html, table.md, table.csv and cells.csv; launch/report.py DIR draws them
again, also while cells run.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rljax.commands.cores import use_all_cores
from rljax.commands.parser import Parser, named, number, path, whole, words
from rljax.commands.paths import check_folder
from rljax.commands.run import run
from rljax.commands.statuses import Status
from rljax.errors import unknown_name

TRAIN = Path(__file__).parent / "train.py"
RULES = ("halving", "pbt")
FACTOR = 3  # of halving, unless the command says another one
OF_POPULATIONS = ("ready", "exploit", "explore", "resample", "rule_seed")
RENDERED = ("jobset", "slurm")


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    add = made.add_argument
    add("--config", type=named, required=True, metavar="FILE[:ARG]", help="that all cells share")
    add("--sweep", type=named, required=True, metavar="FILE", help="a file with sweep()")
    add("--workdir", type=path, metavar="DIR", help="where cells and tables are written")
    add("--seeds", type=whole(1, 4096), metavar="N", help="each cell with the seeds 0..N-1")
    add("--parallel", type=whole(1, 256), default=1, metavar="N", help="cells at a time (1)")
    add(
        "--metric",
        type=named,
        default="heldout/accuracy_greedy",
        metavar="KIND/NAME",
        help="of the last stage, by which cells are ranked (heldout/accuracy_greedy)",
    )
    add(
        "--rule",
        metavar="NAME",
        help="halving ends bad cells early; pbt lets them copy better ones and change",
    )
    add("--factor", type=whole(2, 64), metavar="N", help="of halving: 1 of N goes on (3)")
    add("--ready", type=whole(1), metavar="STEPS", help="of pbt: between two decisions")
    add("--exploit", metavar="NAME", help="of pbt: truncation, t_test or tournament (truncation)")
    add("--explore", type=words, metavar="FIELDS", help="of pbt: that copies change (all swept)")
    add("--resample", type=number(0, 1), metavar="P", help="of pbt: drawn, not multiplied (0)")
    add("--rule-seed", type=whole(0), metavar="N", help="of pbt: of all decisions (0)")
    add(
        "--vmapped",
        action="store_true",
        help="all cells in one program, where they differ in numbers of a last stage on symbols",
    )
    add("--render", metavar="KIND", help="write a job for each cell: jobset or slurm; run none")
    add("--settings", metavar="FILE", help="of --render: a file with settings(), those of the jobs")
    add("--remote", type=path, metavar="DIR", help="of --render: --workdir where the jobs run")
    add("--list", action="store_true", help="print the cells, and run none")
    return made


def sweep(options: argparse.Namespace) -> int:
    """Expands, checks, runs what is missing, and writes the tables."""
    check_flags(options)
    if options.vmapped:
        use_all_cores()
    from rljax.comparison.sweeps.cells import expand
    from rljax.comparison.sweeps.folder import Plan, merged, write_plan
    from rljax.comparison.sweeps.rendered import read_settings, render_cells
    from rljax.config.load import load_config

    config = load_config(options.config, options.overrides)
    overrides = tuple(options.overrides)
    cells = expand(options.config, overrides, options.sweep, options.seeds)
    if options.list:
        for cell in cells:
            print(f"{cell.hash}  {cell.name}")
        return Status.DONE
    plan = Plan(
        options.config,
        overrides,
        config.stages[-1],
        options.metric,
        cells,
        options.vmapped,
        population_of(options, cells, config),
    )
    settings = None
    if options.render is not None:
        settings = read_settings(options.settings, options.render)
    if options.vmapped:
        from rljax.comparison.sweeps.vmapped import points_of

        points_of(cells, config)  # what one program cannot run is said before anything starts
    plan, rule = merged(options.workdir, plan), rule_of(options, plan, config)

    from rljax.training.run.lock import locked
    from rljax.training.run.workdir import make_folder

    make_folder(options.workdir)
    with locked(options.workdir):
        write_plan(options.workdir, plan)
        if options.render is not None:
            remote = options.remote or options.workdir
            files = render_cells(options.workdir, plan, options.render, settings, remote)
            print(f"{len(files)} jobs in {files[0].parent}")
            return Status.DONE
        if options.vmapped:
            return run_as_one(options, plan, config)
        return run_here(options, plan, rule)


def run_as_one(options: argparse.Namespace, plan: Any, config: Any) -> int:
    """Runs the cells as one program; returns the exit status."""
    from rljax.comparison.sweeps.vmapped import run_vmapped
    from rljax.comparison.sweeps.write import best_line, write_sweep

    run_vmapped(options.workdir, plan, config, print)
    conditions = write_sweep(options.workdir, plan)
    print(f"tables: {options.workdir / 'table.md'}")
    print(best_line(conditions, plan.metric))
    return Status.DONE


def run_here(options: argparse.Namespace, plan: Any, rule: Any) -> int:
    """Runs the cells on this machine; returns the exit status."""
    from rljax.comparison.sweeps.local import LocalSweep, counts
    from rljax.comparison.sweeps.side_by_side import python
    from rljax.comparison.sweeps.slots import slots_here
    from rljax.comparison.sweeps.write import best_line, write_sweep

    def say(line: str) -> None:
        print(line, flush=True)

    slots = slots_here(options.parallel)
    local = LocalSweep(options.workdir, plan, slots, python(TRAIN), say)
    signal = local.run(rule)
    conditions = write_sweep(options.workdir, plan)
    say(f"{counts(options.workdir, plan)}; tables: {options.workdir / 'table.md'}")
    if signal is not None:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 128 + signal
    say(best_line(conditions, plan.metric))
    if local.failed:
        raise ValueError(
            f"{len(local.failed)} of {len(plan.cells)} cells failed: {', '.join(local.failed)}; "
            f"their output is in {options.workdir / 'logs'}"
        )
    return Status.DONE


def check_flags(options: argparse.Namespace) -> None:
    """Raises ValueError for flags that say nothing together."""
    if options.workdir is None and not options.list:
        raise ValueError("--workdir is missing; see --help (--workdir).")
    if options.workdir is not None:
        check_folder(options.workdir, "--workdir")
    kind, _, name = options.metric.partition("/")
    if kind not in ("heldout", "train") or not name:
        raise ValueError(
            f"--metric={options.metric}: heldout/NAME or train/NAME is needed, such as "
            "heldout/accuracy_greedy or train/reward (--metric)."
        )
    check_rule_flags(options)
    if options.render is not None and options.render not in RENDERED:
        raise unknown_name("kind of job", options.render, RENDERED, "--render")
    if (options.render is None) != (options.settings is None):
        raise ValueError(
            "--render needs --settings=FILE, the settings of the jobs, and only --render does "
            "(--render, --settings)."
        )
    if options.remote is not None and options.render is None:
        raise ValueError("--remote is of --render alone (--remote).")
    if options.vmapped:
        halving = "halving" if options.rule == "halving" else None
        for flag, given in (("rule", halving), ("render", options.render)):
            if given is not None:
                raise ValueError(
                    f"All cells of one program run to the end: leave out --{flag}, or --vmapped "
                    f"(--{flag}, --vmapped)."
                )
        if options.parallel > 1:
            raise ValueError(
                "One program takes the whole machine: leave out --parallel, or --vmapped "
                "(--parallel, --vmapped)."
            )
    if options.render is not None and options.rule is not None:
        raise ValueError(
            "Jobs of a scheduler do not wait for each other: leave out --rule, or --render "
            "(--rule, --render)."
        )


def check_rule_flags(options: argparse.Namespace) -> None:
    """Raises ValueError for an unknown rule, or flags of another one than is asked for."""
    if options.rule is not None and options.rule not in RULES:
        raise unknown_name("rule", options.rule, RULES, "--rule")
    if options.factor is not None and options.rule != "halving":
        raise ValueError("--factor is of --rule=halving alone (--factor, --rule).")
    for name in OF_POPULATIONS:
        if getattr(options, name) is not None and options.rule != "pbt":
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} is of --rule=pbt alone ({flag}, --rule).")
    if options.rule == "pbt":
        if options.ready is None:
            raise ValueError(
                "Population-based training needs the steps between two decisions, a multiple of "
                "config.evaluation.every_steps: --ready=STEPS (--ready)."
            )
        if not options.vmapped:
            raise ValueError(
                "The members of a population copy each other's states within one program: add "
                "--vmapped, or take --rule=halving (--rule, --vmapped)."
            )


def population_of(options: argparse.Namespace, cells: Any, config: Any) -> Any:
    """The rule of a population, where it was asked for."""
    if options.rule != "pbt":
        return None
    from rljax.comparison.sweeps.population import Rule, check_rule, explored_fields

    stage = config.stages[-1]
    swept = {name: [cell.values[name] for cell in cells] for name in cells[0].values}
    fields = explored_fields(options.explore or (), swept, stage)
    given = {"exploit": options.exploit, "resample": options.resample, "seed": options.rule_seed}
    given = {name: value for name, value in given.items() if value is not None}
    fields = tuple(name.removeprefix(f"{stage}.") for name in fields)
    rule = Rule(options.ready, fields=fields, **given)
    members = tuple(dict.fromkeys(cell.condition for cell in cells))
    check_rule(rule, members, config[stage].steps, config.evaluation.every_steps)
    return rule


def rule_of(options: argparse.Namespace, plan: Any, config: Any) -> Any:
    """Successive halving with its rungs, where it was asked for."""
    if options.rule != "halving":
        return None
    from rljax.comparison.sweeps.halving import rungs
    from rljax.comparison.sweeps.local import Halving

    every = 1
    if plan.metric.startswith("heldout/"):
        every = config.evaluation.every_steps
        if every == 0:
            raise ValueError(
                f"Halving judges {plan.metric} on the way, which is measured at the end only: set "
                "--config.evaluation.every_steps=N, or take a metric of training, such as "
                "--metric=train/reward (config.evaluation.every_steps, --rule)."
            )
    conditions = len({cell.condition for cell in plan.cells})
    steps = config[plan.stage].steps
    factor = options.factor or FACTOR
    return Halving(rungs(conditions, steps, every, factor), factor)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), sweep, arguments)


if __name__ == "__main__":
    sys.exit(main())
