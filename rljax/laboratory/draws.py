"""Draws whose order does not matter."""

import itertools
import math
from collections import Counter

import numpy as np


def multisets(outcomes: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """All draws of n out of K, whatever their order; and in how many orders each can come.

    Returns:
        [D, n] i32 and [D] f64.
    """
    draws = list(itertools.combinations_with_replacement(range(outcomes), samples))
    ways = [
        math.factorial(samples) / math.prod(math.factorial(c) for c in Counter(draw).values())
        for draw in draws
    ]
    return np.array(draws, np.int32).reshape(len(draws), samples), np.array(ways)
