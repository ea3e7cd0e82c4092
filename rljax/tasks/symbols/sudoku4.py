"""Sudoku of 4 x 4 cells: 16 symbols, "0" for an empty cell -> the 16 digits of the grid.

Split by solution, as in SPG (arXiv:2510.09541): of the 288 grids 200 belong to training and 88 are
held out. Unlike its data every puzzle here has exactly one solution.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rljax.tasks.symbols.task import FIELD, Drawn, SymbolTask, Verdict, check_range

TRAIN_SOLUTIONS = 200
SPLIT_SEED = 42
# Solutions of the worked examples that the papers' prompts show: always of the training split.
SHOWN_SOLUTIONS = ("3214142323414132", "4213132424313142", "2341413232141423")
# Choices of cells that are tried for one grid before another is drawn.
_TRIES = 500


@dataclasses.dataclass(frozen=True)
class Sudoku4(SymbolTask):
    """Digits 1 .. 4, each once in every row, column and box of 2 x 2.

    A completion is the whole grid, row by row. Reward: share of the empty cells that are right, 0
    for anything but 16 digits 1 .. 4 and an eos. Correct: all of them right and the givens kept.

    Attributes:
        empty_cells: numbers of empty cells that occur.
        empty_weights: their relative frequencies. The defaults are the histogram of SPG's test set.

    Facts:
        puzzle: [16] i32, digits, 0 for empty.
        solution: [16] i32, digits.
    """

    empty_cells: tuple[int, ...] = (7, 8, 9, 11, 12)
    empty_weights: tuple[float, ...] = (82, 83, 76, 12, 3)

    def __post_init__(self) -> None:
        for name in ("empty_cells", "empty_weights"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(
                    f"{name} of sudoku4 must be a tuple, got {getattr(self, name)!r} "
                    f"({FIELD}.{name})."
                )
        if not 0 < len(self.empty_cells) == len(self.empty_weights):
            raise ValueError(
                f"sudoku4 needs a weight for each number of empty cells, got {self.empty_cells=}, "
                f"{self.empty_weights=} ({FIELD}.empty_cells, {FIELD}.empty_weights)."
            )
        for cells in self.empty_cells:
            # Four givens are the fewest that leave one solution.
            check_range("sudoku4", "empty_cells", cells, 1, 12)
        for weight in self.empty_weights:
            check_range("sudoku4", "empty_weights", weight, 1e-6, 1e6)

    @property
    def name(self) -> str:
        return "sudoku4"

    @property
    def prompt_tokens(self) -> int:
        return 16

    @property
    def completion_tokens(self) -> int:
        return 17

    def in_heldout(self, key: str) -> bool:
        return key not in _train_solutions()

    def draw(self, rng: np.random.Generator, count: int) -> Iterator[Drawn]:
        solutions = grids()
        weights = np.asarray(self.empty_weights, float)
        choices = rng.integers(0, len(solutions), count)
        empties = rng.choice(self.empty_cells, count, p=weights / weights.sum())
        for choice, empty in zip(choices, empties, strict=True):
            for _ in range(_TRIES):
                puzzle = solutions[choice].copy()
                puzzle[rng.permutation(16)[:empty]] = 0
                if len(solve(puzzle)) == 1:
                    yield _drawn(puzzle, solutions[choice])
                    break

    def verify_text(
        self, facts: Mapping[str, Any], completion: str, *, finished: bool = True
    ) -> Verdict:
        if not finished or not re.fullmatch("[1-4]{16}", completion):
            return Verdict(0.0, False, {})
        puzzle, solution = (list(map(int, facts[name])) for name in ("puzzle", "solution"))
        answer = list(map(int, completion))
        empty = [cell for cell in range(16) if puzzle[cell] == 0]
        right = sum(answer[cell] == solution[cell] for cell in empty)
        return Verdict(right / len(empty), answer == solution, {})


def _drawn(puzzle: np.ndarray, solution: np.ndarray) -> Drawn:
    answer = "".join(map(str, solution))
    facts = {"puzzle": puzzle, "solution": solution}
    empty = int((puzzle == 0).sum())
    return Drawn("".join(map(str, puzzle)), answer, facts, answer, empty)


@functools.cache
def grids() -> np.ndarray:
    """[288, 16] i32, all complete grids in ascending order; not to be written to."""
    rows = list(itertools.permutations((1, 2, 3, 4)))
    found = [np.ravel(grid) for grid in itertools.product(rows, repeat=4) if _is_valid(grid)]
    array = np.asarray(found, np.int32)
    array.flags.writeable = False
    return array


def _is_valid(grid: tuple[tuple[int, ...], ...]) -> bool:
    columns = zip(*grid, strict=True)
    boxes = (
        grid[r][c : c + 2] + grid[r + 1][c : c + 2] for r, c in itertools.product((0, 2), repeat=2)
    )
    return all(len(set(cells)) == 4 for cells in itertools.chain(columns, boxes))


def solve(puzzle: np.ndarray) -> np.ndarray:
    """[S, 16], all grids that keep the givens of a puzzle [16]."""
    return grids()[((grids() == puzzle) | (puzzle == 0)).all(axis=1)]


@functools.cache
def _train_solutions() -> frozenset[str]:
    solutions = ["".join(map(str, grid)) for grid in grids()]
    order = np.random.default_rng(SPLIT_SEED).permutation(len(solutions))
    shuffled = [solutions[place] for place in order if solutions[place] not in SHOWN_SOLUTIONS]
    return frozenset([*SHOWN_SOLUTIONS, *shuffled][:TRAIN_SOLUTIONS])
