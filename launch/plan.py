"""Plans a run on a TPU slice that is not there: does it fit, how fast is it at best, at what cost.

    python launch/plan.py --config=configs/quickstart.py --topology=v5e:2x4 [--json=FILE]
        [--stage=NAME] [--ahead=N] [--tries=N] [--search[=K]] [--html=FILE]
    python launch/plan.py --trust

Compiles the run's own programs for the slice, on this machine, with the compiler for TPUs (extra
`plan`), and reads from them memory, operations, traffic and collectives of a chip. Nothing is
allocated; weights are not needed. Times are the least that the compiled programs can take on that
chip (a roofline): nothing in them is fitted to measurements. The line "expected" is, by one
efficiency of published runs for training and one for sampling.

A config file may name its slice: TOPOLOGY = "v5e:8x8"; two slices are "2xv5e:8x8". Exit status 1:
it does not fit, or cannot be planned.
"""

import argparse
import json
import sys
from pathlib import Path

from rljax.commands.parser import Parser, named, number, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.commands.statuses import Status

# Options that have no meaning with --trust.
OF_ONE_RUN = (
    *("config", "overrides", "topology", "price", "json", "html", "stage"),
    *("ahead", "tries", "search"),
)


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    add = made.add_argument
    add("--config", type=named, metavar="FILE[:ARG]", help="the run")
    add("--topology", type=named, metavar="[Nx]CHIP:AxB", help="the slices, N (1); or the config's")
    add("--price", type=number(0, 1e6), metavar="P", help="of a chip for an hour")
    add("--json", type=path, metavar="FILE", help="also writes the plan there")
    add("--html", type=path, metavar="FILE", help="also draws the plan as a page")
    add(
        "--cache",
        type=path,
        default=Path("runs/plans"),
        metavar="DIR",
        help="keeps what was compiled (runs/plans)",
    )
    add(
        "--trust",
        nargs="?",
        const="all",
        metavar="CASE,CASE",
        help="instead of a run: plans of published ones, beside what was measured",
    )
    add("--memory-gb", type=whole(1), metavar="N", help="that a compilation may take (any)")
    add("--stage", type=named, metavar="NAME", help="of the config; by default a line names it")
    add(
        "--ahead",
        type=whole(0),
        default=0,
        metavar="N",
        help="compiles N splits of the chips with the sampler ahead (0: one is estimated)",
    )
    add(
        "--tries",
        type=whole(0),
        default=6,
        metavar="N",
        help="changes that are compiled, at most, to find one that fits (6)",
    )
    add(
        "--search",
        type=whole(1),
        nargs="?",
        const=4,
        metavar="K",
        help="compiles the K layouts that promise most, and ranks them (4)",
    )
    return made


def plan(options: argparse.Namespace) -> int:
    """Plans and prints; 1 where it does not fit."""
    if options.trust is not None:
        return trust(options)
    if options.config is None:
        raise ValueError("Nothing to plan: give a run (--config) or published ones (--trust).")
    for name in ("json", "html"):
        if getattr(options, name) is not None:
            check_file(getattr(options, name), f"--{name}")
    # Imported late, so that what is wrong with the command is said at once.
    from rljax.planning.chips import read_topology
    from rljax.planning.compiling import Compiler, check_compiler

    topology = read_topology(*topology_of(options))
    check_compiler()
    from rich.console import Console

    from rljax.planning.choices import print_choices
    from rljax.planning.expected import expected_step
    from rljax.planning.plan import make_plan
    from rljax.planning.remedies import remedy
    from rljax.planning.search import search
    from rljax.planning.splits import both_ways
    from rljax.planning.table import print_plan
    from rljax.reporting.files import write_text_atomic

    compiler = Compiler(
        options.config,
        options.overrides,
        topology,
        options.cache,
        options.memory_gb or 0,
        options.stage or "",
    )
    made = make_plan(compiler, price=options.price, told=told)
    if made["step_seconds"] is not None:
        made |= expected_step(made, topology)
    made |= both_ways(compiler, made, options.ahead, told=told)
    if not made["fits"] and options.tries:
        made["remedy"] = remedy(compiler, made, options.tries, told=told)
    if options.search:
        made["search"] = search(compiler, made, options.search, told=told)
    if options.json is not None:
        options.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    if options.html is not None:
        from rljax.planning.page import plan_page

        write_text_atomic(options.html, plan_page(made))
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    print_plan(made, console)
    print_choices(made, console)
    for file in (options.json, options.html):
        if file is not None:
            told(f"written: {file}")
    return Status.DONE if made["fits"] else Status.FAILED


def told(line: str) -> None:
    """What is done meanwhile; the plan alone is on stdout."""
    print(line, file=sys.stderr)


def trust(options: argparse.Namespace) -> int:
    """Prints published figures beside those of plans.

    Raises:
        ValueError: beside options of a single run, which have no meaning here.
    """
    unsaid = parser().read([])
    for name in OF_ONE_RUN:
        if getattr(options, name) != getattr(unsaid, name):
            flag = "config.*" if name == "overrides" else name
            raise ValueError(f"--{flag} is of one run: leave it out, or plan that run (--trust).")
    from rljax.planning.compiling import check_compiler
    from rljax.planning.trust import print_trust

    check_compiler()
    print_trust(options.trust, options.cache, options.memory_gb or 0)
    return Status.DONE


def topology_of(options: argparse.Namespace) -> tuple[str, str]:
    """The name of the slice, and where it was given.

    Raises:
        ValueError: if neither the command nor the config names one.
    """
    if options.topology is not None:
        return options.topology, "--topology"
    from rljax.user_modules import import_file

    file = options.config.partition(":")[0]
    if not Path(file).is_file():
        raise ValueError(
            f"No config file {file!r}; give a Python file with get_config (--config=FILE[:ARG])."
        )
    name = getattr(import_file(file, field="--config"), "TOPOLOGY", None)
    if not isinstance(name, str):
        raise ValueError(f"{file} names no TOPOLOGY: give one, such as v5e:4x4 (--topology).")
    return name, f"TOPOLOGY of {file}"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), plan, arguments)


if __name__ == "__main__":
    sys.exit(main())
