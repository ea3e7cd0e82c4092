"""Compares preference losses on a known reward: which recover the ranking, and over-optimisation.

    python launch/preferences.py --json=FILE           # losses at several rates of swapped labels
    python launch/preferences.py --methods=dpo,robust_dpo --noises=0.3 --seeds=16
    python launch/preferences.py --overoptimisation --json=FILE    # of a reward model, beside DPO
    python launch/preferences.py --write               # what rljax/comparison/preferences/ shows

Losses are those of training, on a problem of a few symbols whose rewards can be summed exactly;
rates are chosen on seeds of their own. Prints gold reward, reward accuracy and ranking accuracy;
with --overoptimisation how the gold reward falls as policies go on against a reward model of few
pairs. Both say whether what papers claim holds. Each takes minutes on one core.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rljax.commands.parser import Parser, numbers, path, whole, words
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.reporting.files import write_text_atomic

ROOM = Path(__file__).parents[1] / "rljax" / "comparison" / "preferences"
LOSSES, OVEROPTIMISATION = "found", "overoptimisation"  # names of the JSON files of the room


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--methods", type=words, default=(), metavar="A,B", help="what is compared (all)")
    add("--noises", type=numbers, default=(), metavar="0,0.2", help="swapped labels (0 to 0.4)")
    add("--updates", type=whole(1), default=300, metavar="N", help="of each policy (300)")
    add("--overoptimisation", action="store_true", help="the other table")
    add("--seeds", type=whole(1, 4096), default=16, metavar="N", help="seeds 0..N-1 (16)")
    add("--json", type=path, metavar="FILE", help="where all numbers are written")
    add("--overwrite", action="store_true", help="replace --json if it exists")
    add("--write", action="store_true", help="rewrite the table of the room")
    return made


def preferences(options: argparse.Namespace) -> None:
    """Trains, measures and prints the tables."""
    if options.json is not None:
        check_file(options.json, "--json", overwrite=options.overwrite)
    of_losses = options.methods or options.noises or options.updates != 300
    if options.write and (of_losses or options.seeds != 16):
        raise ValueError("--write is of everything, with the defaults: give it alone (--write).")
    if options.overoptimisation and of_losses:
        raise ValueError(
            "--overoptimisation has methods and sizes of its own: leave out --methods, --noises "
            "and --updates (--overoptimisation)."
        )
    name = OVEROPTIMISATION if options.overoptimisation else LOSSES
    found, table = (overoptimisation if options.overoptimisation else losses)(options)
    print(table)
    text = json.dumps(found) + "\n"
    if options.json is not None:
        write_text_atomic(options.json, text)
    if options.write:
        write_text_atomic(ROOM / f"{name}.json", text)
        show(ROOM / "README.md", name, table)


def losses(options: argparse.Namespace) -> tuple[Any, str]:
    """What the losses find, and their tables."""
    from rljax.comparison.preferences.methods import METHODS, NOISES
    from rljax.comparison.preferences.run import Asked, run_table
    from rljax.comparison.preferences.table import as_markdown

    methods, noises = options.methods or METHODS, options.noises or NOISES
    found = run_table(Asked(methods, noises, options.seeds, options.updates), told)
    return found, as_markdown(found)


def overoptimisation(options: argparse.Namespace) -> tuple[Any, str]:
    """What becomes of policies against a reward model, and the table."""
    from rljax.comparison.preferences.overoptimisation import run_overoptimisation
    from rljax.comparison.preferences.proxy_table import as_markdown

    found = run_overoptimisation(options.seeds, told)
    return found, as_markdown(found)


def show(readme: Path, name: str, table: str) -> None:
    """Puts a table between its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = readme.read_text().partition(start)
    write_text_atomic(readme, before + start + table + end + rest.partition(end)[2])


def told(line: str) -> None:
    """Prints a line of progress at once."""
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), preferences, arguments)


if __name__ == "__main__":
    sys.exit(main())
