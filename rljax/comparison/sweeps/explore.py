"""How a copy changes its numbers in population-based training (arXiv:1711.09846, 4.1.2)."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

FACTORS = (0.8, 1.2)

Numbers = Mapping[str, float]  # field -> value
Allowed = Callable[[Numbers], bool]


class Change(NamedTuple):
    """What has become of one number.

    Attributes:
        value: the new one.
        factor: the new one over that of the source; None where it was drawn anew.
    """

    value: float
    factor: float | None


def explored(
    source: Numbers,
    beginnings: Mapping[str, Sequence[float]],
    resample: float,
    draw: Callable[[str], np.random.Generator],
    allowed: Allowed,
) -> dict[str, Change]:
    """The numbers of a copy.

    Each field by itself: with probability `resample` the value that some member began with, drawn
    uniformly over the members; otherwise the source's times 0.8 or 1.2, with equal chance. A value
    that the config does not allow beside the other numbers is not taken: the other factor is, or,
    where none is left, the value stays (factor 1).

    Args:
        source: all numbers of the source.
        beginnings: fields that change -> the values that the members began with.
        resample: a probability.
        draw: field -> its random numbers.
        allowed: whether a config can hold so many numbers at once.
    """
    numbers, changes = dict(source), dict[str, Change]()
    for field, known in beginnings.items():
        rng = draw(field)
        if rng.random() < resample:
            tried = [Change(float(known[int(rng.integers(len(known)))]), None)]
        else:
            order = FACTORS if rng.random() < 0.5 else FACTORS[::-1]
            tried = [Change(source[field] * factor, factor) for factor in order]
        fitting = (each for each in tried if allowed({**numbers, field: each.value}))
        change = next(fitting, Change(source[field], 1.0))
        numbers[field], changes[field] = change.value, change
    return changes
