"""Chained modular arithmetic as files: prompts, answers, and worked solutions.

"7+5*3-2%9=" is worked out from left to right, each result modulo 9: 7+5 is 3, 3*3 is 0, 0-2 is 7.
The chain of thought is the line of all results before the last, "30", and the last one is the
value. A short answer is the value; a long one counts on from it, 32 digits modulo 9. So the answer
is a function of the prompt, and of its first digit alone once the modulus is read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OPERATORS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
LONG_ANSWER = 32
# Tokens of an answer, its closing tag and end token.
ANSWER_TOKENS = {"short": 3, "long": LONG_ANSWER + 2}
TRAIN, HELDOUT = 4096, 256
PROMPT_TOKENS, CHAIN_TOKENS = 12, 6
HINT = "{context}|{prompt}"


class Problem(NamedTuple):
    """One problem."""

    prompt: str
    chain: str
    value: int
    modulus: int


def draw_problems(seed: int, count: int) -> Iterator[Problem]:
    """Different problems with two to four operations and a modulus of 5 to 9."""
    rng = np.random.default_rng(seed)
    seen = set()
    while len(seen) < count:
        steps, modulus = int(rng.integers(2, 5)), int(rng.integers(5, 10))
        numbers = rng.integers(1, 10, steps + 1).tolist()
        signs = rng.choice(list(OPERATORS), steps).tolist()
        value, results, text = numbers[0], [], str(numbers[0])
        for sign, number in zip(signs, numbers[1:], strict=True):
            value = OPERATORS[sign](value, number) % modulus
            results.append(str(value))
            text += f"{sign}{number}"
        prompt = f"{text}%{modulus}="
        if prompt not in seen:
            seen.add(prompt)
            yield Problem(prompt, "".join(results[:-1]), value, modulus)


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

    In warmup.jsonl half of the demonstrations are worked out, so that the policy knows both ways,
    and every fourth prompt shows its answer, so that it knows what a hint is. direct.jsonl has the
    bare answer of every training problem.

    Args:
        folder: made where it is not there.
        task: "short" or "long".
        train: training problems.
        heldout: held-out problems, none of which is a training problem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = list(draw_problems(0, train + heldout))
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "heldout": [], "warmup": [], "direct": []}
    for place, problem in enumerate(problems):
        answer = answer_of(problem, task)
        plain = {"prompt": problem.prompt, "reference": answer}
        rows["train" if place < train else "heldout"].append(plain)
        if place >= train:
            continue
        bare = completion_of(problem, task, worked=False)
        rows["direct"].append({"prompt": problem.prompt, "completion": bare})
        shown = HINT.replace("{context}", answer).replace("{prompt}", problem.prompt)
        demonstration = completion_of(problem, task, worked=place % 2 == 0)
        rows["warmup"].append(
            {"prompt": shown if place % 4 < 1 else problem.prompt, "completion": demonstration}
        )
    for name, found in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
