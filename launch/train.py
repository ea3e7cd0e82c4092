"""Trains, or continues an interrupted run.

    python launch/train.py --config=FILE[:ARG] [--config.a.b=VALUE ...] [--workdir=DIR]
    python launch/train.py --config=FILE[:ARG] --replay=DIR --workdir=NEW

The same command on the same workdir continues an interrupted run. On a pod it is started on every
host (rljax/processes/README.md). With --replay a run whose sampler was ahead is repeated in the
order of its events.jsonl: the same samples, the same parameters.
"""

import argparse
import sys
from pathlib import Path

from rljax.commands.interrupts import ending_at_once
from rljax.commands.parser import Parser, named, path
from rljax.commands.paths import check_folder
from rljax.commands.run import run


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__, overrides=True)
    add = made.add_argument
    add(
        "--config",
        type=named,
        required=True,
        metavar="FILE[:ARG]",
        help="a file with get_config(arg); with ARG=smoke any config runs in seconds",
    )
    add("--workdir", type=path, metavar="DIR", help="of the run (runs/NAME-DATE-TIME)")
    add("--replay", type=path, metavar="DIR", help="of a run of this config that is repeated")
    add(
        "--save-executables",
        type=named,
        metavar="DIR",
        help="keeps compiled programs there, and loads them (rljax/training/run/programs.py)",
    )
    add("--preflight", action="store_true", help="check hosts, files and devices, and stop there")
    add(
        "--profile",
        type=named,
        default=None,
        metavar="[STAGE:]FIRST[-LAST]",
        help="steps whose xprof trace and timeline are written (rljax/training/run/profile.py)",
    )
    return made


def train(options: argparse.Namespace) -> None:
    """Loads, checks and runs."""
    if options.workdir is not None:
        if ":/" in str(options.workdir):
            raise ValueError(
                f"A workdir lies on a disk, not in a store: {options.workdir}. Give a folder, and "
                "--config.checkpoint.folder=gs://BUCKET/PATH, which then holds the checkpoints and "
                "a copy of the workdir's files (--workdir)."
            )
        check_folder(options.workdir, "--workdir")
    if options.save_executables is not None and "://" not in options.save_executables:
        check_folder(Path(options.save_executables), "--save-executables")
    if options.replay is not None and options.replay == options.workdir:
        raise ValueError("--replay and --workdir are the same folder: a replay needs a new one")
    # Imported late, so that wrong words are answered at once.
    with ending_at_once():
        from rljax.config.load import load_config
        from rljax.training import loop
        from rljax.training.preflight import preflight
        from rljax.training.run.phases import process_began
        from rljax.training.run.programs import keep_programs
        from rljax.training.run.several import started

    if options.save_executables is not None:
        keep_programs(options.save_executables)
    config = load_config(options.config, options.overrides)
    with started(config, options.workdir) as (processes, workdir):
        if options.preflight:
            preflight(config, workdir, processes)
        else:
            loop.run(
                config,
                workdir,
                processes=processes,
                began=process_began(),
                replay=options.replay,
                profile=options.profile or "",
            )


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), train, arguments)


if __name__ == "__main__":
    sys.exit(main())
