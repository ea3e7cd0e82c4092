"""Rewards of 4 x 4 Sudoku in d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).

References are {"puzzle": 16 characters, "solution": 16 characters} (or JSON text); "0" is an empty
cell. Agreement with the one stored solution counts: of a puzzle with several, another valid grid is
scored as wrong. `sudoku_valid_grid` is the measure without that trap.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from rljax.rewards.answers import last_tagged
from rljax.rewards.references import reference_fields

CELLS = 16
_END = r"<\|eot_id\|>|<\|endoftext\|>"
# Where the evaluation looks for the grid: the first pattern whose group holds something.
_PLACES = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<answer>.*?```\s*([\d\s]+)```",
        rf"<answer>(.*?)(?:{_END}|</answer>)",
        rf"</answer>\s*(.*?)(?:{_END}|$)",
        r"(\d{16})\s*</answer>",
        r"\b(\d{16})\b",
    )
]


class Cells(NamedTuple):
    """How many of the empty cells of a puzzle are right, and the grid that was read."""

    right: int
    empty: int
    grid: str  # "" where none was found

    @property
    def share(self) -> float:
        return self.right / self.empty if self.empty else 0.0


def sudoku(prompt: str, completion: str, reference: Any) -> float:
    """Training reward: share of the empty cells that agree with the stored solution.

    The digits of the last <answer> pair are the grid, cut or filled with 0 to 16. No pair and no
    digit score 0. Given cells are not compared.
    """
    answer = last_tagged(completion) or ""
    grid = "".join(character for character in answer if character.isdigit())
    return _compare(grid, reference, "sudoku").share


def sudoku_cells(prompt: str, completion: str, reference: Any) -> float:
    """Evaluation: the same share of the grid that the papers' parser finds; see `find_grid`.

    The papers report `cell_accuracy` over all puzzles, not the mean of the shares.
    """
    return compare_cells(completion, reference).share


def sudoku_valid_grid(prompt: str, completion: str, reference: Any) -> float:
    """1.0 if the grid that `find_grid` finds keeps the givens and obeys all rules."""
    puzzle, _ = read_puzzle(reference, "sudoku_valid_grid")
    grid = find_grid(completion)
    if len(grid) != CELLS or any(p not in ("0", g) for p, g in zip(puzzle, grid, strict=True)):
        return 0.0
    rows = [grid[4 * row : 4 * row + 4] for row in range(4)]
    columns = [grid[column::4] for column in range(4)]
    boxes = [grid[c : c + 2] + grid[c + 4 : c + 6] for c in (0, 2, 8, 10)]
    return float(all(sorted(unit) == list("1234") for unit in rows + columns + boxes))


def compare_cells(completion: str, reference: Any) -> Cells:
    """The right and the empty cells of one completion, by the evaluation's parser."""
    return _compare(find_grid(completion), reference, "sudoku_cells")


def cell_accuracy(results: Iterable[Cells]) -> float:
    """Right cells of all puzzles / empty cells of all puzzles (a micro-average)."""
    results = list(results)
    empty = sum(cells.empty for cells in results)
    return sum(cells.right for cells in results) / empty if empty else 0.0


def find_grid(completion: str) -> str:
    """What stands for the grid, without white space, of any length; "" for nothing.

    Tried in order: digits between ``` in the answer; the answer up to its end; the text behind the
    answer; 16 digits before a closing tag; any word of 16 digits.
    """
    for place in _PLACES:
        match = place.search(completion)
        if match and match[1].strip():
            return re.sub(r"\s", "", match[1])
    return ""


def _compare(grid: str, reference: Any, reward: str) -> Cells:
    puzzle, solution = read_puzzle(reference, reward)
    empty = [cell for cell in range(CELLS) if puzzle[cell] == "0"]
    if not grid:
        return Cells(0, len(empty), "")
    grid = grid[:CELLS].ljust(CELLS, "0")
    return Cells(sum(grid[cell] == solution[cell] for cell in empty), len(empty), grid)


def read_puzzle(reference: Any, reward: str) -> tuple[str, str]:
    """The puzzle and the solution of a reference.

    Raises:
        ValueError: if one of them is no text of 16 digits.
    """
    puzzle, solution = reference_fields(reference, ("puzzle", "solution"), reward)
    for name, text in (("puzzle", puzzle), ("solution", solution)):
        if not isinstance(text, str) or not re.fullmatch(r"[0-9]{16}", text):
            raise ValueError(
                f"The {name} of the reward {reward!r} must be a text of {CELLS} digits, got "
                f"{text!r} (config.data.reference_column)."
            )
    return puzzle, solution
