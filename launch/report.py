"""Draws the report of a run, or compares several.

    python launch/report.py WORKDIR                  writes WORKDIR/report.html
    python launch/report.py WORKDIR WORKDIR ...      writes ./report.html
    python launch/report.py WORKDIR ... --out=FILE   writes FILE
    python launch/report.py SWEEP                    writes the report and the tables of a sweep

A run that is still running works too: the report shows it up to its last logged step.
"""

import argparse
import sys
from pathlib import Path

from rljax.commands.parser import Parser, path
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.reporting import files
from rljax.reporting.report import write_report


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    made.add_argument("workdirs", nargs="+", type=path, metavar="WORKDIR", help="folder of a run")
    made.add_argument("--out", type=path, metavar="FILE", help="where the report is written")
    return made


def report(options: argparse.Namespace) -> None:
    """Reads the runs and writes one page."""
    if any((folder / files.SWEEP_FILE).is_file() for folder in options.workdirs):
        return sweep_report(options)
    folder = options.workdirs[0] if len(options.workdirs) == 1 else Path()
    out = options.out or folder / files.REPORT_FILE
    if options.out is not None:
        check_file(out, "--out")
    write_report(options.workdirs, out)
    print(f"wrote {out}")


def sweep_report(options: argparse.Namespace) -> None:
    """Draws the page and the tables of a sweep again."""
    from rljax.comparison.sweeps.write import write_sweep

    if len(options.workdirs) > 1:
        raise ValueError("A sweep has a report of its own: give its folder alone (WORKDIR).")
    (folder,) = options.workdirs
    if options.out is not None:
        check_file(options.out, "--out")
    write_sweep(folder, out=options.out)
    print(f"wrote {options.out or folder / files.REPORT_FILE}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), report, arguments)


if __name__ == "__main__":
    sys.exit(main())
