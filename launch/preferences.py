"""Compares preference losses on a known reward with noisy labels: which recover the ranking.

    python launch/preferences.py --json=FILE           # all of them, in minutes on one core
    python launch/preferences.py --methods=dpo,robust_dpo --noises=0.3 --seeds=16
    python launch/preferences.py --write               # what rljax/comparison/preferences/ shows

Losses are those of training, on a problem of a few symbols whose rewards can be summed exactly;
rates are chosen on seeds of their own. Prints gold reward, reward accuracy and ranking accuracy,
and whether orderings that papers claim hold.
"""

import argparse
import json
import sys
from pathlib import Path

from rljax.commands.parser import Parser, numbers, path, whole, words
from rljax.commands.paths import check_file
from rljax.commands.run import run

ROOM = Path(__file__).parents[1] / "rljax" / "comparison" / "preferences"
START, END = "<!-- preferences -->\n", "<!-- /preferences -->"


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--methods", type=words, default=(), metavar="A,B", help="what is compared (all)")
    add("--noises", type=numbers, default=(), metavar="0,0.2", help="swapped labels (0 to 0.4)")
    add("--seeds", type=whole(1, 4096), default=16, metavar="N", help="seeds 0..N-1 (16)")
    add("--updates", type=whole(1), default=300, metavar="N", help="of each policy (300)")
    add("--json", type=path, metavar="FILE", help="where all numbers are written")
    add("--overwrite", action="store_true", help="replace --json if it exists")
    add("--write", action="store_true", help="rewrite the table of the room")
    return made


def preferences(options: argparse.Namespace) -> None:
    """Trains, measures and prints the tables."""
    if options.json is not None:
        check_file(options.json, "--json", overwrite=options.overwrite)
    changed = options.methods or options.noises or (options.seeds, options.updates) != (16, 300)
    if options.write and changed:
        raise ValueError("--write is of everything, with the defaults: give it alone (--write).")

    from rljax.comparison.preferences.methods import METHODS, NOISES
    from rljax.comparison.preferences.run import Asked, run_table
    from rljax.comparison.preferences.table import as_markdown

    methods, noises = options.methods or METHODS, options.noises or NOISES
    asked = Asked(methods, noises, options.seeds, options.updates)
    found = run_table(asked, lambda line: print(line, flush=True))
    table = as_markdown(found)
    print(table)
    text = json.dumps(found) + "\n"
    if options.json is not None:
        options.json.write_text(text)
    if options.write:
        (ROOM / "found.json").write_text(text)
        readme = ROOM / "README.md"
        before, _, rest = readme.read_text().partition(START)
        readme.write_text(before + START + table + END + rest.partition(END)[2])


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), preferences, arguments)


if __name__ == "__main__":
    sys.exit(main())
