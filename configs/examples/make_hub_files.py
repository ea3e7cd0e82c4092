"""Writes small files in the columns of the hub, to try the recipes of this folder with:

    python configs/examples/make_hub_files.py FOLDER

train.jsonl and heldout.jsonl are like GSM8K (question, answer with `#### 72`), messages.jsonl holds
conversations of two turns, pairs.jsonl a chosen and a rejected conversation of each question.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
THINGS = ("apples", "books", "shells", "stamps")


def problem(generator: random.Random) -> dict[str, str]:
    """A question and its worked answer."""
    first, second = generator.randint(2, 20), generator.randint(2, 20)
    name, things = generator.choice(NAMES), generator.choice(THINGS)
    question = f"{name} has {first} {things} and finds {second} more. How many are there now?"
    total = first + second
    worked = f"There are {first} + {second} = <<{first}+{second}={total}>>{total} {things}."
    return {"question": question, "answer": f"{worked}\n#### {total}"}


def said(role: str, content: str) -> dict[str, str]:
    """A message."""
    return {"role": role, "content": content}


def conversation(generator: random.Random) -> dict[str, Any]:
    """Two questions, each with its answer."""
    turns = [problem(generator) for _ in range(2)]
    messages = [
        said(role, turn[column])
        for turn in turns
        for role, column in (("user", "question"), ("assistant", "answer"))
    ]
    return {"messages": messages}


def pair(generator: random.Random) -> dict[str, Any]:
    """The worked answer, and one that leaves out the work and is wrong."""
    made = problem(generator)
    right = int(made["answer"].rpartition(" ")[2])
    answers = {"chosen": made["answer"], "rejected": f"#### {right + generator.randint(1, 9)}"}
    asked = said("user", made["question"])
    return {side: [asked, said("assistant", answer)] for side, answer in answers.items()}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(folder: Path) -> None:
    """Writes the four files."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    write(folder / "train.jsonl", [problem(generator) for _ in range(256)])
    write(folder / "heldout.jsonl", [problem(generator) for _ in range(32)])
    write(folder / "messages.jsonl", [conversation(generator) for _ in range(128)])
    write(folder / "pairs.jsonl", [pair(generator) for _ in range(128)])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python configs/examples/make_hub_files.py FOLDER")
    make(Path(sys.argv[1]))
