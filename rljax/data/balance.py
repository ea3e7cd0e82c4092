"""Rows whose classes are learned equally often: class-balanced sampling.

Of claims labelled true or false one in ten is false (RATE-FT, arXiv:2505.12265), and a model that
learns them as they come says "true" to all; SPOC (arXiv:2506.06923) learns verdicts "correct" and
"incorrect" about 1 to 1.
"""

from collections.abc import Hashable, Sequence

import numpy as np


def balanced(classes: Sequence[Hashable], seed: int) -> list[int]:
    """Places of rows, those of every class as often as there are rows of the largest one.

    A row of a class of n rows stands floor(most / n) times, and some of them once more: which ones
    is drawn.

    Args:
        classes: of each row.
        seed: of the draw.

    Returns:
        Places in ascending order.
    """
    of_class: dict[Hashable, list[int]] = {}
    for place, name in enumerate(classes):
        of_class.setdefault(name, []).append(place)
    most, rng = max(map(len, of_class.values()), default=0), np.random.default_rng(seed)
    found: list[int] = []
    for places in of_class.values():
        whole, rest = divmod(most, len(places))
        found += places * whole + rng.choice(places, rest, replace=False).tolist()
    return sorted(found)
