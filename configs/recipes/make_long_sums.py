"""Writes the sums of two_stage_math.py: solutions that say every step one to three times.

    python configs/recipes/make_long_sums.py

makes long_sums.jsonl and long_sums_heldout.jsonl beside this file, always the same: columns
`prompt` ("7+5+8="), `reference` ("20") and `completion`, the steps with the answer in a box and
again behind the end of thinking. No sum is in both.
"""

import json
import random
from pathlib import Path

TRAINED, HELD_OUT = 800, 128
MOST_TIMES = 3


def row(terms: tuple[int, int, int], generator: random.Random) -> dict[str, str]:
    """A sum of three digits and its solution."""
    first = terms[0] + terms[1]
    total = first + terms[2]
    steps = f"{terms[0]}+{terms[1]}={first} ", f"{first}+{terms[2]}={total} "
    said = "".join(step * generator.randint(1, MOST_TIMES) for step in steps)
    return {
        "prompt": "+".join(map(str, terms)) + "=",
        "reference": str(total),
        "completion": f"{said}\\boxed{{{total}}}</think>{total}",
    }


def main() -> None:
    """Writes both files."""
    generator = random.Random(0)
    sums = [(a, b, c) for a in range(10) for b in range(10) for c in range(10)]
    generator.shuffle(sums)
    parts = {"long_sums": sums[:TRAINED], "long_sums_heldout": sums[TRAINED:][:HELD_OUT]}
    for name, part in parts.items():
        lines = [json.dumps(row(terms, generator)) + "\n" for terms in part]
        Path(__file__).with_name(f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
