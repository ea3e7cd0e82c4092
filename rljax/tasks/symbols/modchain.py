"""Chains of modular arithmetic with a visible line of intermediate values.

"7+5*3-2%9=" -> "30>7": from left to right, each result modulo 9: 7+5 is 3, 3*3 is 0, 0-2 is 7.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rljax.tasks.symbols.alphabet import PAD_ID, encode
from rljax.tasks.symbols.task import FIELD, Drawn, SymbolTask, Verdict, check_bounds, check_range

_COMPLETION = re.compile(r"([0-9]*)>([0-9])")


@dataclasses.dataclass(frozen=True)
class ModChain(SymbolTask):
    """Operations from left to right, without precedence, modulo a number of one digit.

    A completion is a line of digits, the marker ">" and one digit, the answer. Reward 1 for a right
    answer, whatever the line says; the check "line_right" tells whether the line is right, one
    digit for the result of each operation but the last.

    Attributes:
        min_operations: fewest operations.
        max_operations: most operations; the number is drawn evenly.
        min_modulus: smallest modulus.
        max_modulus: largest modulus; drawn evenly.
        operators: some of "+-*".
        worked_share: share of the solutions that show the line; the others are ">" and the answer.
        line_credit: reward of a right line before a wrong answer.

    Facts:
        line: [max(max_operations - 1, 1)] i32, ids of the line, padded on the right.
        answer: [] i32, id of the answer.
        line_credit: [] f32.
    """

    min_operations: int = 2
    max_operations: int = 4
    min_modulus: int = 5
    max_modulus: int = 9
    operators: str = "+-*"
    worked_share: float = 1.0
    line_credit: float = 0.0

    def __post_init__(self) -> None:
        for name in ("operations", "modulus"):
            low, high = (1, 64) if name == "operations" else (2, 9)
            bounds = [getattr(self, f"{end}_{name}") for end in ("min", "max")]
            for end, bound in zip(("min", "max"), bounds, strict=True):
                check_range("modchain", f"{end}_{name}", bound, low, high)
            check_bounds("modchain", name, *bounds)
        check_operators("modchain", self.operators, "+-*")
        check_range("modchain", "worked_share", self.worked_share, 0.0, 1.0)
        check_range("modchain", "line_credit", self.line_credit, 0.0, 1.0)

    @property
    def name(self) -> str:
        return "modchain"

    @property
    def prompt_tokens(self) -> int:
        return 2 * self.max_operations + 4

    @property
    def completion_tokens(self) -> int:
        return self.max_operations + 2

    def draw(self, rng: np.random.Generator, count: int) -> Iterator[Drawn]:
        lengths = rng.integers(self.min_operations, self.max_operations + 1, count).tolist()
        moduli = rng.integers(self.min_modulus, self.max_modulus + 1, count).tolist()
        operands = rng.integers(1, 10, (count, self.max_operations + 1)).tolist()
        places = rng.integers(0, len(self.operators), (count, self.max_operations)).tolist()
        worked = (rng.random(count) < self.worked_share).tolist()
        for row, length in enumerate(lengths):
            operators = [self.operators[place] for place in places[row][:length]]
            numbers = operands[row][: length + 1]
            *line, answer = chain_values(numbers, operators, moduli[row])
            text = "".join(o + str(n) for o, n in zip(["", *operators], numbers, strict=True))
            shown = "".join(map(str, line))
            facts = {
                "line": encode(shown) + [PAD_ID] * (max(self.max_operations - 1, 1) - len(line)),
                "answer": encode(str(answer))[0],
                "line_credit": float(self.line_credit),
            }
            prompt = f"{text}%{moduli[row]}="
            solution = f"{shown if worked[row] else ''}>{answer}"
            yield Drawn(prompt, solution, facts, prompt, length)

    def verify_text(
        self, facts: Mapping[str, Any], completion: str, *, finished: bool = True
    ) -> Verdict:
        match = _COMPLETION.fullmatch(completion)
        if match is None or not finished:
            return Verdict(0.0, False, {"line_right": False})
        line = [int(token) for token in facts["line"] if token != PAD_ID]
        line_right = encode(match[1]) == line
        correct = encode(match[2]) == [int(facts["answer"])]
        reward = 1.0 if correct else float(facts["line_credit"]) * line_right
        return Verdict(reward, correct, {"line_right": line_right})


def chain_values(numbers: list[int], operators: list[str], modulus: int) -> list[int]:
    """The result of each operation, from left to right, each modulo `modulus`."""
    values, value = [], numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        value = {"+": value + number, "-": value - number, "*": value * number}[operator] % modulus
        values.append(value)
    return values


def check_operators(task: str, operators: Any, allowed: str) -> None:
    """Raises ValueError unless `operators` is a text of different symbols out of `allowed`."""
    known = isinstance(operators, str) and 0 < len(operators) == len(set(operators) & set(allowed))
    if not known:
        raise ValueError(
            f"operators of {task} must be a text of one or more of {allowed!r}, each once, got "
            f"{operators!r} ({FIELD}.operators)."
        )
