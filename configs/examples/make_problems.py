"""Writes the JSONL files of own_task.py: `python configs/examples/make_problems.py`."""

import json
import random
from pathlib import Path

FOLDER = Path(__file__).parent


def write(name: str, seed: int, count: int) -> None:
    """Letters to sort: the sorted ones are the reference, and the completion to imitate."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        letters = generator.sample("abcdefghij", 4)
        answer = "".join(sorted(letters))
        record = {"prompt": f"sort {''.join(letters)} ", "reference": answer, "completion": answer}
        lines.append(json.dumps(record))
    (FOLDER / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write("problems.jsonl", seed=0, count=2048)
    write("heldout.jsonl", seed=1, count=64)
