"""Writes small files in the columns of the hub, to try the recipes of this folder with:

    python configs/examples/make_hub_files.py FOLDER

train.jsonl and heldout.jsonl are like GSM8K (question, answer with `#### 72`), messages.jsonl holds
conversations of two turns, pairs.jsonl a chosen and a rejected conversation of each question,
code.jsonl and code_heldout.jsonl programs to write, with tests like MBPP's.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
# Name of a function, what it returns, and its body.
FUNCTIONS = (
    ("add", "the sum of two numbers", "a + b"),
    ("larger", "the larger one of two numbers", "max(a, b)"),
    ("gap", "the distance of two numbers", "abs(a - b)"),
    ("times", "the product of two numbers", "a * b"),
)
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


def program(generator: random.Random) -> dict[str, Any]:
    """A function to write, its code, and asserts; the text shows the first one, as it is usual."""
    name, what, body = generator.choice(FUNCTIONS)
    numbers = [(generator.randint(0, 20), generator.randint(0, 20)) for _ in range(3)]
    results = [eval(body, {"a": a, "b": b}) for a, b in numbers]
    tests = [
        f"assert {name}({a}, {b}) == {result}"
        for (a, b), result in zip(numbers, results, strict=True)
    ]
    return {
        "text": f"Write a python function that returns {what}. It passes this test: {tests[0]}",
        "code": f"def {name}(a, b):\n    return {body}",
        "test_list": tests,
        "test_setup_code": "",
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(folder: Path) -> None:
    """Writes the files."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    write(folder / "train.jsonl", [problem(generator) for _ in range(256)])
    write(folder / "heldout.jsonl", [problem(generator) for _ in range(32)])
    write(folder / "messages.jsonl", [conversation(generator) for _ in range(128)])
    write(folder / "pairs.jsonl", [pair(generator) for _ in range(128)])
    write(folder / "code.jsonl", [program(generator) for _ in range(128)])
    write(folder / "code_heldout.jsonl", [program(generator) for _ in range(16)])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python configs/examples/make_hub_files.py FOLDER")
    make(Path(sys.argv[1]))
