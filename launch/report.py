"""Redraws the report of a run, or compares several.

    python launch/report.py WORKDIR                  writes WORKDIR/report.html
    python launch/report.py WORKDIR WORKDIR ...      writes ./report.html
    python launch/report.py WORKDIR ... --out=FILE   writes FILE

A run that is still running works too: the report shows it up to its last logged step.
"""

import argparse
import sys
from pathlib import Path

from rljax.reporting import files
from rljax.reporting.report import write_report


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after printing what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a run")
    parser.add_argument("--out", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    folder = options.workdirs[0] if len(options.workdirs) == 1 else Path()
    out = options.out or folder / files.REPORT_FILE
    try:
        write_report(options.workdirs, out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
