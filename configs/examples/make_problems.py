"""Writes the JSONL files of own_task.py and rlhf.py: `python configs/examples/make_problems.py`."""

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


def write_pairs(name: str, seed: int, count: int) -> None:
    """The sorted letters are chosen, the same letters in another order are rejected."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        letters = generator.sample("abcdefghij", 4)
        chosen = rejected = "".join(sorted(letters))
        while rejected == chosen:
            rejected = "".join(generator.sample(chosen, 4))
        prompt = f"sort {''.join(letters)} "
        lines.append(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    (FOLDER / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write("problems.jsonl", seed=0, count=2048)
    write("heldout.jsonl", seed=1, count=64)
    write_pairs("pairs.jsonl", seed=2, count=1024)
