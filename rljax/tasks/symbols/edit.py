"""String edits: instructions and a string, "r:abca=" -> "acba"; see `Edit`."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rljax.errors import unknown_name
from rljax.tasks.symbols.alphabet import LETTERS, PAD_ID, encode
from rljax.tasks.symbols.sort import exact_answer
from rljax.tasks.symbols.task import (
    FIELD,
    Drawn,
    SymbolTask,
    Verdict,
    check_bounds,
    check_range,
)

# Edit -> its symbol in the prompt; delete and replace are followed by letters, rotate by a digit.
EDITS = {"reverse": "r", "rotate": "l", "delete": "x", "replace": "s", "swap": "w"}


@dataclasses.dataclass(frozen=True)
class Edit(SymbolTask):
    """A string after one or several edits. Reward 1 for the exact result, else 0.

    Prompt "EDITS:STRING=", edits separated by commas and done from left to right:

        r     reverse                               r:abcd=   -> dcba
        l2    rotate to the left by two             l2:abcd=  -> cdab
        xb    delete every b                        xb:abcb=  -> ac
        sbd   replace every b by d                  sbd:abcb= -> adcd
        w     swap the first and the last letter    w:abcd=   -> dbca

    Attributes:
        min_length: fewest letters of the string, 2 or more.
        max_length: most letters; the length is drawn evenly.
        letters: how many of the letters a .. h occur.
        min_edits: fewest edits.
        max_edits: most edits; the number is drawn evenly.
        edits: which occur, out of "reverse", "rotate", "delete", "replace", "swap".

    Facts:
        answer: [max_length] i32, ids of the result, padded on the right.
    """

    min_length: int = 3
    max_length: int = 6
    letters: int = 8
    min_edits: int = 1
    max_edits: int = 1
    edits: tuple[str, ...] = tuple(EDITS)

    def __post_init__(self) -> None:
        for name in ("length", "edits"):
            low, high = (2, 64) if name == "length" else (1, 8)
            bounds = [getattr(self, f"{end}_{name}") for end in ("min", "max")]
            for end, bound in zip(("min", "max"), bounds, strict=True):
                check_range("edit", f"{end}_{name}", bound, low, high)
            check_bounds("edit", name, *bounds)
        check_range("edit", "letters", self.letters, 2, len(LETTERS))
        if not isinstance(self.edits, tuple) or not self.edits:
            raise ValueError(
                f"edits of edit must be a tuple of names, got {self.edits!r} ({FIELD}.edits)."
            )
        for name in self.edits:
            if name not in EDITS:
                raise unknown_name("edit", name, EDITS, f"{FIELD}.edits")

    @property
    def name(self) -> str:
        return "edit"

    @property
    def prompt_tokens(self) -> int:
        longest = max({"replace": 3, "rotate": 2, "delete": 2}.get(name, 1) for name in self.edits)
        return self.max_edits * longest + self.max_edits - 1 + self.max_length + 2

    @property
    def completion_tokens(self) -> int:
        return self.max_length + 1

    def draw(self, rng: np.random.Generator, count: int) -> Iterator[Drawn]:
        lengths = rng.integers(self.min_length, self.max_length + 1, count).tolist()
        strings = rng.integers(0, self.letters, (count, self.max_length)).tolist()
        numbers = rng.integers(self.min_edits, self.max_edits + 1, count).tolist()
        kinds = rng.integers(0, len(self.edits), (count, self.max_edits)).tolist()
        # Three draws for each edit: of a place in the string, of a letter, of a distance.
        picks = rng.integers(0, 2**31, (count, self.max_edits, 3)).tolist()
        for row, length in enumerate(lengths):
            string = result = "".join(LETTERS[place] for place in strings[row][:length])
            instructions = []
            for kind, pick in zip(kinds[row][: numbers[row]], picks[row], strict=False):
                if not result:
                    break
                instruction = self._instruction(self.edits[kind], result, pick)
                result = apply_edit(instruction, result)
                instructions.append(instruction)
            if result:
                prompt = f"{','.join(instructions)}:{string}="
                answer = encode(result) + [PAD_ID] * (self.max_length - len(result))
                yield Drawn(prompt, result, {"answer": answer}, prompt, len(instructions))

    def _instruction(self, edit: str, string: str, pick: list[int]) -> str:
        place, letter, distance = pick
        symbol, there = EDITS[edit], string[place % len(string)]
        if edit == "delete":
            return symbol + there
        if edit == "replace":
            others = LETTERS[: self.letters].replace(there, "")
            return symbol + there + others[letter % len(others)]
        if edit == "rotate":
            return f"{symbol}{1 + distance % min(max(len(string) - 1, 1), 9)}"
        return symbol

    def verify_text(
        self, facts: Mapping[str, Any], completion: str, *, finished: bool = True
    ) -> Verdict:
        return exact_answer(facts, completion, finished)


def apply_edit(instruction: str, string: str) -> str:
    """The string after one edit, such as "r" or "sbd"; see `Edit`."""
    symbol, rest = instruction[0], instruction[1:]
    if symbol == "r":
        return string[::-1]
    if symbol == "l":
        distance = int(rest) % len(string)
        return string[distance:] + string[:distance]
    if symbol == "x":
        return string.replace(rest, "")
    if symbol == "s":
        return string.replace(rest[0], rest[1])
    return string if len(string) < 2 else string[-1] + string[1:-1] + string[0]
