"""Sort digits: "3121=" -> "1123"."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rljax.tasks.symbols.alphabet import PAD_ID, encode
from rljax.tasks.symbols.task import Drawn, SymbolTask, Verdict, check_bounds, check_range


@dataclasses.dataclass(frozen=True)
class Sort(SymbolTask):
    """Digits in ascending order. Reward 1 for the exact answer, else 0.

    Attributes:
        min_length: fewest digits.
        max_length: most digits; the length is drawn evenly.
        max_digit: digits are drawn evenly from 0 .. max_digit.

    Facts:
        answer: [max_length] i32, ids of the answer, padded on the right.
    """

    min_length: int = 3
    max_length: int = 6
    max_digit: int = 9

    def __post_init__(self) -> None:
        check_range("sort", "min_length", self.min_length, 1, 64)
        check_range("sort", "max_length", self.max_length, 1, 64)
        check_bounds("sort", "length", self.min_length, self.max_length)
        check_range("sort", "max_digit", self.max_digit, 1, 9)

    @property
    def name(self) -> str:
        return "sort"

    @property
    def prompt_tokens(self) -> int:
        return self.max_length + 1

    @property
    def completion_tokens(self) -> int:
        return self.max_length + 1

    def draw(self, rng: np.random.Generator, count: int) -> Iterator[Drawn]:
        lengths = rng.integers(self.min_length, self.max_length + 1, count).tolist()
        digits = rng.integers(0, self.max_digit + 1, (count, self.max_length)).tolist()
        for length, row in zip(lengths, digits, strict=True):
            text = "".join(map(str, row[:length]))
            solution = "".join(sorted(text))
            answer = encode(solution) + [PAD_ID] * (self.max_length - length)
            yield Drawn(text + "=", solution, {"answer": answer}, text, length)

    def verify_text(
        self, facts: Mapping[str, Any], completion: str, *, finished: bool = True
    ) -> Verdict:
        return exact_answer(facts, completion, finished)


def exact_answer(facts: Mapping[str, Any], completion: str, finished: bool) -> Verdict:
    """Right if the completion is the stored answer, symbol by symbol."""
    answer = [int(token) for token in facts["answer"] if token != PAD_ID]
    try:
        correct = finished and encode(completion) == answer
    except ValueError:  # a character that is no symbol
        correct = False
    return Verdict(float(correct), correct, {})
