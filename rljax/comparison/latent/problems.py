"""Chained modular arithmetic as files: prompts, answers, and worked solutions.

"7+5-4%7=" is worked out from left to right, each result modulo 7: 7+5 is 5, and 5-4 is 1. The chain
of thought is "7+5=5 5-4=1", and its last result is the value. A short answer is the value; a long
one counts on from it, 32 digits modulo 7. So the answer is a function of the prompt, and of its
first digit alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OPERATORS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}
LONG_ANSWER = 32
# Tokens of an answer, its closing tag and end token.
ANSWER_TOKENS = {"short": 3, "long": LONG_ANSWER + 2}
TRAIN, HELDOUT = 4096, 256
PROMPT_TOKENS, CHAIN_TOKENS = 12, 23
HINT = "{context}|{prompt}"
HINT_TOKENS = {"short": 2, "long": LONG_ANSWER + 1}
MODULUS = 7  # of all problems: a small network learns its sums within minutes
HABIT_SHARE = 0.35  # of worked demonstrations in the habit


class Problem(NamedTuple):
    """One problem."""

    prompt: str
    chain: str
    value: int
    modulus: int


def draw_problems(seed: int, count: int) -> Iterator[Problem]:
    """Different problems with two to four operations."""
    rng = np.random.default_rng(seed)
    seen = set()
    while len(seen) < count:
        steps = int(rng.integers(2, 5))
        numbers = rng.integers(1, 10, steps + 1).tolist()
        signs = rng.choice(list(OPERATORS), steps).tolist()
        value, done, text = numbers[0], [], str(numbers[0])
        for sign, number in zip(signs, numbers[1:], strict=True):
            result = OPERATORS[sign](value, number) % MODULUS
            done.append(f"{value}{sign}{number}={result}")
            value = result
            text += f"{sign}{number}"
        prompt = f"{text}%{MODULUS}="
        if prompt not in seen:
            seen.add(prompt)
            yield Problem(prompt, " ".join(done), value, MODULUS)


def answer_of(problem: Problem, task: str) -> str:
    """The reference answer: one digit, or 32."""
    length = 1 if task == "short" else LONG_ANSWER
    return "".join(str((problem.value + place) % problem.modulus) for place in range(length))


def completion_of(problem: Problem, task: str, *, worked: bool) -> str:
    """The answer, after the chain of thought where it is worked out."""
    chain = problem.chain if worked else ""
    return f"{chain}<answer>{answer_of(problem, task)}</answer>"


def write_problems(folder: Path, task: str, *, train: int = TRAIN, heldout: int = HELDOUT) -> None:
    """Writes the files of a task: training and held-out problems, demonstrations of both kinds.

    The demonstrations of warmup.jsonl are worked out; those of habit.jsonl are mostly bare answers,
    so that a policy that learns them next guesses. In both every fourth prompt shows its answer, so
    that the policy knows what a hint is. direct.jsonl has the bare answers alone.

    Args:
        folder: made where it is not there.
        task: "short" or "long".
        train: training problems.
        heldout: held-out problems, none of which is a training problem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = list(draw_problems(0, train + heldout))
    names = ("train", "heldout", "warmup", "habit", "direct")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    worked = np.random.default_rng(1).random(train + heldout) < HABIT_SHARE
    for place, problem in enumerate(problems):
        answer = answer_of(problem, task)
        plain = {"prompt": problem.prompt, "reference": answer}
        rows["train" if place < train else "heldout"].append(plain)
        if place >= train:
            continue
        bare = completion_of(problem, task, worked=False)
        rows["direct"].append({"prompt": problem.prompt, "completion": bare})
        shown = HINT.replace("{context}", answer).replace("{prompt}", problem.prompt)
        prompt = shown if place % 4 == 0 else problem.prompt
        for name, shows in (("warmup", True), ("habit", worked[place])):
            completion = completion_of(problem, task, worked=shows)
            rows[name].append({"prompt": prompt, "completion": completion})
    for name, found in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
