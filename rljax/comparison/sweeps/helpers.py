"""What sweep files are written with: every combination, side by side, or drawn with a seed.

Each helper yields mappings "a.b" -> value. Conditions are Python: a sweep file leaves out what it
does not want, or yields one mapping more.
"""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Overrides = dict[str, Any]
Draw = Callable[[np.random.Generator], Any]
DIGITS = 3  # of drawn numbers, so that names stay readable


def grid(values: Mapping[str, Sequence[Any]]) -> Iterator[Overrides]:
    """Every combination, the last field fastest.

    Args:
        values: field -> its values.

    Raises:
        ValueError: for a field without values.
    """
    _check_values(values, "grid")
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def zipped(values: Mapping[str, Sequence[Any]]) -> Iterator[Overrides]:
    """The first values of all fields, then the second ones, and so on.

    Args:
        values: field -> its values, as many as of every other field.

    Raises:
        ValueError: for fields with different numbers of values, or without any.
    """
    _check_values(values, "zipped")
    counts = {name: len(given) for name, given in values.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"zipped needs as many values of each field, got {counts} (sweep()).")
    for combination in zip(*values.values(), strict=True):
        yield dict(zip(values, combination, strict=True))


def draws(count: int, values: Mapping[str, Draw], seed: int = 0) -> Iterator[Overrides]:
    """Random search: `count` cells, each field drawn by itself.

    A value depends on the seed, the number of the cell and the name of the field alone. So more
    cells, or one field more, leave the others as they were.

    Args:
        count: of cells.
        values: field -> `uniform`, `log_uniform`, `choice`, or a function of a numpy Generator.
        seed: of the draws.
    """
    if count < 1 or not values:
        raise ValueError(f"draws needs a cell and a field, got {count} cells (sweep()).")
    for index in range(count):
        yield {
            name: draw(np.random.default_rng((seed, index, zlib.crc32(name.encode()))))
            for name, draw in values.items()
        }


def uniform(low: float, high: float) -> Draw:
    """A number in low .. high, to three digits."""
    if not low < high:
        raise ValueError(f"uniform needs low < high, got {low} and {high} (sweep()).")
    return lambda rng: min(max(_rounded(rng.uniform(low, high)), low), high)


def log_uniform(low: float, high: float) -> Draw:
    """A number in low .. high whose logarithm is uniform, to three digits."""
    if not 0 < low < high:
        raise ValueError(f"log_uniform needs 0 < low < high, got {low} and {high} (sweep()).")
    ends = math.log(low), math.log(high)
    return lambda rng: min(max(_rounded(math.exp(rng.uniform(*ends))), low), high)


def choice(options: Sequence[Any]) -> Draw:
    """One of several values."""
    if not len(options):
        raise ValueError("choice needs a value (sweep()).")
    return lambda rng: options[int(rng.integers(len(options)))]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _check_values(values: Mapping[str, Sequence[Any]], helper: str) -> None:
    for name, given in values.items():
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or not len(given):
            raise ValueError(f"{name}={given!r}: {helper} needs a list of values (sweep()).")
    if not values:
        raise ValueError(f"{helper} needs a field (sweep()).")
