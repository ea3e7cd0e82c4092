"""Measures bounds and gradient estimators where the truth can be enumerated.

    python launch/estimators.py                    # all of them, in a minute or two
    python launch/estimators.py --bounds=multi_sample,trice --json=FILE
    python launch/estimators.py --write            # the table and picture of rljax/laboratory/

Each one's value and gradient come from the functions that training uses. Their bias and variance
are enumerated in float64, and sampled in float32. The exit status is 1 if a claim does not hold:
that an estimator is unbiased, or that a bound is one.
"""

import argparse
import sys
from pathlib import Path

from rljax.commands.parser import Parser, path, whole, words
from rljax.commands.run import run

ROOM = Path(__file__).parents[1] / "rljax" / "laboratory"


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--bounds", type=words, default=(), metavar="A,B", help="which ones (all)")
    add("--json", type=path, metavar="FILE", help="where all numbers are written")
    add("--draws", type=whole(100), default=20_000, metavar="N", help="sampled of each (20000)")
    add("--seed", type=whole(0), default=0, metavar="N", help="of problem and sampling (0)")
    add("--write", action="store_true", help="rewrite the table and the picture of the room")
    return made


def estimators(options: argparse.Namespace) -> int:
    """Returns the exit status: 1 if a claim does not hold."""
    from rljax.laboratory.picture import picture
    from rljax.laboratory.report import as_markdown, find_rows, order_holds, write_json

    if options.write and (options.bounds or options.seed or options.draws != 20_000):
        raise ValueError("--write is of all bounds, with the defaults: give it alone (--write).")
    rows = find_rows(options.bounds, draws=options.draws, seed=options.seed, told=print)
    print(as_markdown(rows))
    if options.json is not None:
        write_json(options.json, rows, draws=options.draws, seed=options.seed)
    if options.write:
        readme, (start, end) = ROOM / "README.md", ("<!-- estimators -->\n", "<!-- /estimators -->")
        before, _, rest = readme.read_text().partition(start)
        readme.write_text(before + start + as_markdown(rows) + end + rest.partition(end)[2])
        (ROOM / "bounds.svg").write_text(picture(rows))
    return int(not (order_holds(rows) and all(row["kept"] for row in rows)))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py); 1 also if a claim does not hold."""
    return run(parser(), estimators, arguments)


if __name__ == "__main__":
    sys.exit(main())
