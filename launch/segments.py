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
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from rljax.data.segments import SPLITS, next_segments

RECIPES = Path(__file__).parents[1] / "configs/recipes"
HIDDEN = "<missing>"
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


def main() -> None:
    """Writes the rows of the given texts, or both files of the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="?", type=Path)
    parser.add_argument("rows", nargs="?", type=Path)
    parser.add_argument("--column", default="text")
    parser.add_argument("--split", choices=tuple(SPLITS), default="line")
    parser.add_argument("--shortest", type=int, default=1)
    parser.add_argument("--middle", type=int, default=0)
    given = parser.parse_args()
    if given.texts and not given.rows:
        parser.error("give a file for the rows")
    if given.texts:
        lines = given.texts.read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)[given.column] for line in lines]
        write(given.rows, rows_of(texts, given.split, given.shortest, given.middle))
        return
    generator = random.Random(0)
    texts = list({lines_of_sums(generator): None for _ in range(TRAINED + HELD_OUT)})
    parts = {"next_line": texts[:-HELD_OUT], "next_line_heldout": texts[-HELD_OUT:]}
    for name, part in parts.items():
        write(RECIPES / f"{name}.jsonl", rows_of(part, "line", 1, 0))


if __name__ == "__main__":
    main()
