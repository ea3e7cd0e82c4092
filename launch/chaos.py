"""Kills a run at random moments of every phase, and compares it with one that never stopped.

    python launch/chaos.py --config=configs/chaos.py --kills=30 --seed=0 --json=chaos.json

The config is run once without a kill, the reference. Then the same run is killed by SIGKILL,
SIGTERM and SIGINT, and started again, until it is complete; then the next one begins, until there
were as many kills as asked for. Parameters and optimizer must be the same bit for bit, metrics and
rollouts byte by byte, each step must be there once; nothing may be left behind, neither files nor
processes. --inject adds faults: files that cannot grow any more, as on a full disk (FULL), and a
bit of the newest checkpoint that flips (FLIP).

The exit status is 0 if nothing differs, else 1.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rljax.commands.parser import Parser, named, path, whole
from rljax.commands.paths import check_file, check_folder
from rljax.commands.run import run

LAUNCH = Path(__file__).parent


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    add = made.add_argument
    add("--config", type=named, required=True, metavar="FILE[:ARG]", help="of the run")
    add("--kills", type=whole(1), default=30, metavar="N", help="so many (30)")
    add("--seed", type=whole(0), default=0, metavar="N", help="of phases, moments, signals (0)")
    add("--json", type=path, metavar="FILE", help="counts and problems")
    add(
        "--workdir",
        type=path,
        metavar="DIR",
        help="for the reference, which is kept and used again, and killed runs that differ (a "
        "temporary folder)",
    )
    add("--processes", type=whole(1), default=1, metavar="N", help="beside each other (1)")
    add("--devices", type=whole(1), default=1, metavar="N", help="of each of several (1)")
    add("--timeout", type=whole(1), default=900, metavar="S", help="of an attempt (900)")
    add("--inject", action="store_true", help="faults, too")
    return made


def command(options: argparse.Namespace, workdir: Path) -> Sequence[str]:
    """The words that run the config in a workdir."""
    train = [f"--config={options.config}", *options.overrides, f"--workdir={workdir}"]
    if options.processes == 1:
        return [sys.executable, str(LAUNCH / "train.py"), *train]
    return [
        *(sys.executable, str(LAUNCH / "hosts.py")),
        *(f"--processes={options.processes}", f"--devices={options.devices}", "--"),
        *(str(LAUNCH / "train.py"), *train),
    ]


def chaos(options: argparse.Namespace) -> int:
    """Kills, compares, and says what came of it."""
    if options.json is not None:
        check_file(options.json, "--json")
    if options.workdir is not None:
        check_folder(options.workdir, "--workdir")
    environment = dict(os.environ)
    # Here checkpoints are read only: the devices belong to the runs.
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory(prefix="rljax-chaos-") as scratch:
        return _killed(options, environment, options.workdir or Path(scratch))


def _killed(options: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> int:
    from rich.console import Console

    from rljax.chaos.campaign import Campaign
    from rljax.chaos.table import kills_table, verdict_line
    from rljax.config.load import load_config
    from rljax.reporting.files import write_json_atomic

    load_config(options.config, options.overrides)  # what is wrong with it is said at once
    folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(
        lambda workdir: command(options, workdir),
        environment,
        folder.absolute(),
        processes=options.processes,
        timeout=options.timeout,
        say=lambda line: print(line, flush=True),
    )
    verdict = campaign.run(options.kills, options.seed, options.inject)
    if options.json is not None:
        about = {"config": options.config, "seed": options.seed, "side_by_side": options.processes}
        write_json_atomic(options.json, about | verdict.as_json(options.kills))
    console = Console()
    console.print(kills_table(verdict))
    for line in verdict.problems:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(verdict_line(verdict, options.kills), highlight=False, soft_wrap=True)
    return 0 if verdict.good else 1


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), chaos, arguments)


if __name__ == "__main__":
    sys.exit(main())
