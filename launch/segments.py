"""Writes the rows of next_segment.py: a context, and the segment of a text that comes next.

    python launch/segments.py TEXTS.jsonl ROWS.jsonl --split=sentence --shortest=12
    python launch/segments.py

TEXTS holds a column `text` (--column names another); ROWS gets `prompt`, `reference` and, for a
stage of demonstrations, `completion`, the segment behind the end of a line. One target in so many
(--middle=4, say) is asked for between what comes before and behind it. Without files it writes
configs/recipes/next_line.jsonl and next_line_heldout.jsonl, always the same: lines such as `7+5`,
each of which begins with the last digit of the sum or difference of the line before.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rljax.commands.parser import Parser
from rljax.commands.run import run
from rljax.data.segments import SPLITS, next_segments
from rljax.data.sources import open_source
from rljax.processes.identity import check_alone

RECIPES = Path(__file__).parents[1] / "configs/recipes"
HIDDEN = "<missing>"
# Ends a prompt: a thought is a comment. Without it the end of a line would end both a prompt and
# what comes next.
ASKED = "\n#"
TRAINED, HELD_OUT, LINES = 600, 40, 4


def rows_of(texts: Iterable[str], split: str, shortest: int, middle: int) -> Iterator[dict]:
    """The rows of texts; every `middle`-th target has what follows it in its prompt."""
    count = 0
    for text in texts:
        for segment in next_segments(text, split, shortest=shortest):
            count += 1
            prompt = segment.before
            if middle and count % middle == 0 and segment.following:
                prompt = f"{prompt} {HIDDEN} {segment.following}"
            completion = f"\n{segment.target}"
            prompt += ASKED
            yield {"prompt": prompt, "reference": segment.target, "completion": completion}


def lines_of_sums(generator: random.Random) -> str:
    """A text of `LINES` lines."""
    value, lines = generator.randrange(10), []
    for _ in range(LINES):
        sign, number = generator.choice("+-"), generator.randrange(10)
        lines.append(f"{value}{sign}{number}")
        value = (value + number if sign == "+" else value - number) % 10
    return "\n".join(lines)


def write(path: Path, rows: Iterable[dict]) -> None:
    """One JSON object for each row."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def parser() -> Parser:
    """The flags."""
    made = Parser(__doc__)
    made.add_argument("texts", nargs="?", type=Path, help="JSONL; without it the recipe's own rows")
    made.add_argument("rows", nargs="?", type=Path, help="the file that is written")
    made.add_argument("--column", default="text", help="of the texts")
    made.add_argument("--split", choices=tuple(SPLITS), default="line", help="what a segment is")
    made.add_argument("--shortest", type=int, default=1, help="letters of a segment, at least")
    made.add_argument("--middle", type=int, default=0, help="hide every so manieth target; 0: none")
    return made


def cut(given: argparse.Namespace) -> None:
    """Writes the rows of the given texts, or both files of the sums."""
    check_alone("launch/segments.py", os.environ)
    if given.texts and not given.rows:
        raise ValueError("Give a file for the rows behind the one of the texts (rows).")
    if given.texts:
        texts = [record[given.column] for record in open_source("jsonl", path=str(given.texts))]
        write(given.rows, rows_of(texts, given.split, given.shortest, given.middle))
        return
    generator = random.Random(0)
    texts = list({lines_of_sums(generator): None for _ in range(TRAINED + HELD_OUT)})
    parts = {"next_line": texts[:-HELD_OUT], "next_line_heldout": texts[-HELD_OUT:]}
    for name, part in parts.items():
        write(RECIPES / f"{name}.jsonl", rows_of(part, "line", 1, 0))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), cut, arguments)


if __name__ == "__main__":
    sys.exit(main())
