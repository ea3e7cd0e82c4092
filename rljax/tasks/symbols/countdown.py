"""Countdown: reach a target with given numbers, "257:17=" -> "5*2+7"; see `Countdown`."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rljax.tasks.symbols.modchain import check_operators
from rljax.tasks.symbols.task import FIELD, Drawn, SymbolTask, Verdict, check_range

OPERATORS = "+-*/"
_TOKEN = re.compile(r"[1-9][0-9]?|[-+*/()]")


@dataclasses.dataclass(frozen=True)
class Countdown(SymbolTask):
    """An expression that uses every number exactly once and equals the target.

    Prompt "NUMBERS:TARGET=", the numbers of one digit without a separator, longer ones with commas:
    "257:19=", "12,5,7:49=". A completion is an infix expression of numbers, binary operators and
    parentheses; no sign before a number, no leading zero. Values are exact fractions. Reward 1 if
    all numbers are used exactly once and the value is the target, `partial` if only the numbers are
    right, else 0. The check "well_used" tells whether the numbers are.

    Every problem has a solution: a random expression makes its target. Problems with the same
    numbers in another order and the same target are in one split.

    Attributes:
        low: smallest number, 1 or more.
        high: largest number, at most 99.
        max_target: targets are 1 .. max_target.
        operators: some of "+-*/"; the problem needs no others, and an answer may use no others.
        parentheses: whether solutions may need parentheses, and answers use them.
        partial: reward of a well-formed expression with the right numbers and a wrong value.

    Facts:
        numbers: [K] i32.
        target: [] i32.
        allowed: [6] bool, which of "+-*/()" an answer may hold.
        partial: [] f32.
    """

    low: int = 1
    high: int = 9
    max_target: int = 99
    operators: str = "+-*"
    parentheses: bool = False
    partial: float = 0.0

    numbers: ClassVar[int]  # K

    def __post_init__(self) -> None:
        # Numbers up to 99 keep every fraction of 4 numbers below 8 * 99**4 < 2**31.
        check_range(self.name, "low", self.low, 1, 99)
        check_range(self.name, "high", self.high, 1, 99)
        if self.low > self.high:
            raise ValueError(
                f"low={self.low} of {self.name} is above high={self.high} ({FIELD}.low, "
                f"{FIELD}.high)."
            )
        check_range(self.name, "max_target", self.max_target, 1, 9999)
        check_operators(self.name, self.operators, OPERATORS)
        if not isinstance(self.parentheses, bool):
            raise ValueError(
                f"parentheses of {self.name} must be True or False, got {self.parentheses!r} "
                f"({FIELD}.parentheses)."
            )
        check_range(self.name, "partial", self.partial, 0.0, 1.0)

    @property
    def name(self) -> str:
        return f"countdown{self.numbers}"

    @property
    def prompt_tokens(self) -> int:
        digits = self.numbers * len(str(self.high)) + len(str(self.max_target))
        commas = (self.numbers - 1) * (self.high > 9)
        return digits + commas + 2

    @property
    def completion_tokens(self) -> int:
        # The outermost operation needs no parentheses, so at most K - 2 pairs do.
        pairs = (self.numbers - 2) * self.parentheses
        return self.numbers * len(str(self.high)) + self.numbers - 1 + 2 * pairs + 1

    def draw(self, rng: np.random.Generator, count: int) -> Iterator[Drawn]:
        numbers = rng.integers(self.low, self.high + 1, (count, self.numbers)).tolist()
        shape = (count, self.numbers - 1)
        operators = rng.integers(0, len(self.operators), shape).tolist()
        # Which two neighbours are joined next: of K, of K - 1, ... of 2 parts.
        joined = rng.integers(0, np.arange(self.numbers - 1, 0, -1), shape).tolist()
        orders = rng.permuted(np.tile(np.arange(self.numbers), (count, 1)), axis=1).tolist()
        for row in range(count):
            parts = [_Part(number, 1, str(number), 2) for number in numbers[row]]
            for operator, place in zip(operators[row], joined[row], strict=True):
                part = _join(self.operators[operator], *parts[place : place + 2])
                if part is None:
                    break
                parts[place : place + 2] = [part]
            if len(parts) > 1 or parts[0].top % parts[0].bottom:
                continue
            target = parts[0].top // parts[0].bottom
            if 1 <= target <= self.max_target and (self.parentheses or "(" not in parts[0].text):
                # In another order than the solution's.
                given = [numbers[row][place] for place in orders[row]]
                yield self._drawn(given, target, parts[0].text)

    def _drawn(self, numbers: list[int], target: int, solution: str) -> Drawn:
        facts = {
            "numbers": numbers,
            "target": target,
            "allowed": [o in self.operators for o in OPERATORS] + 2 * [self.parentheses],
            "partial": float(self.partial),
        }
        shown = ("," if self.high > 9 else "").join(map(str, numbers))
        key = f"{sorted(numbers)} {target}"
        return Drawn(f"{shown}:{target}=", solution, facts, key, len(numbers))

    def verify_text(
        self, facts: Mapping[str, Any], completion: str, *, finished: bool = True
    ) -> Verdict:
        wrong = Verdict(0.0, False, {"well_used": False})
        pieces = _TOKEN.findall(completion)
        if not finished or "".join(pieces) != completion:
            return wrong
        # "123" is found as 12 and 3, and "012" not at all.
        if any(a.isdigit() and b.isdigit() for a, b in zip(pieces, pieces[1:], strict=False)):
            return wrong
        allowed = {s for s, yes in zip(OPERATORS + "()", facts["allowed"], strict=True) if yes}
        if not {piece for piece in pieces if not piece.isdigit()} <= allowed:
            return wrong
        used = Counter(int(piece) for piece in pieces if piece.isdigit())
        if used != Counter(int(number) for number in facts["numbers"]):
            return wrong
        try:
            value = evaluate(pieces)
        except ValueError:
            return wrong
        correct = value is not None and value == int(facts["target"])
        return Verdict(1.0 if correct else float(facts["partial"]), correct, {"well_used": True})


@dataclasses.dataclass(frozen=True)
class Countdown3(Countdown):
    """Countdown with three numbers."""

    numbers: ClassVar[int] = 3


@dataclasses.dataclass(frozen=True)
class Countdown4(Countdown):
    """Countdown with four numbers."""

    numbers: ClassVar[int] = 4


def evaluate(pieces: list[str]) -> Fraction | None:
    """Value of an infix expression by recursive descent; None if it divides by zero.

        sum     := product (("+" | "-") product)*
        product := atom (("*" | "/") atom)*
        atom    := NUMBER | "(" sum ")"

    Raises:
        ValueError: if the pieces are no such expression.
    """
    value, place = _sum(pieces, 0)
    if place != len(pieces):
        raise ValueError(f"{''.join(pieces)!r} goes on after its end, at piece {place}.")
    return value


def _sum(pieces: list[str], place: int) -> tuple[Fraction | None, int]:
    value, place = _product(pieces, place)
    while place < len(pieces) and pieces[place] in "+-":
        sign = 1 if pieces[place] == "+" else -1
        right, place = _product(pieces, place + 1)
        value = None if value is None or right is None else value + sign * right
    return value, place


def _product(pieces: list[str], place: int) -> tuple[Fraction | None, int]:
    value, place = _atom(pieces, place)
    while place < len(pieces) and pieces[place] in "*/":
        divides = pieces[place] == "/"
        right, place = _atom(pieces, place + 1)
        if value is None or right is None or (divides and right == 0):
            value = None
        else:
            value = value / right if divides else value * right
    return value, place


def _atom(pieces: list[str], place: int) -> tuple[Fraction | None, int]:
    piece = pieces[place] if place < len(pieces) else ""
    if piece.isdigit():
        return Fraction(int(piece)), place + 1
    if piece != "(":
        raise ValueError(f"{''.join(pieces)!r} has no number at piece {place}.")
    value, place = _sum(pieces, place + 1)
    if place >= len(pieces) or pieces[place] != ")":
        raise ValueError(f"{''.join(pieces)!r} has an open parenthesis.")
    return value, place + 1


class _Part(NamedTuple):
    """An expression: its value top / bottom, its text, how tightly its last operation binds."""

    top: int
    bottom: int
    text: str
    binding: int  # 0 for + and -, 1 for * and /, 2 for a number


def _join(operator: str, left: _Part, right: _Part) -> _Part | None:
    """The two joined, with no parentheses but the needed ones; None for a division by zero."""
    binding = int(operator in "*/")
    # a-(b-c) and a/(b*c) change without parentheses, a+(b-c) and a*(b/c) do not.
    guard_right = right.binding < binding or (operator in "-/" and right.binding == binding)
    first = f"({left.text})" if left.binding < binding else left.text
    second = f"({right.text})" if guard_right else right.text
    if operator in "+-":
        sign = 1 if operator == "+" else -1
        top = left.top * right.bottom + sign * right.top * left.bottom
        bottom = left.bottom * right.bottom
    elif operator == "*":
        top, bottom = left.top * right.top, left.bottom * right.bottom
    else:
        top, bottom = left.top * right.bottom, left.bottom * right.top
    return _Part(top, bottom, first + operator + second, binding) if bottom else None
