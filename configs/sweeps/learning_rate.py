"""A sweep of `launch/compare.py --sweep`: every value runs side by side with every seed.

`launch/sweep.py` takes the same file, and makes a run of its own of each value.
"""

from collections.abc import Iterator

from rljax.comparison.sweeps import grid


def sweep() -> Iterator[dict[str, float]]:
    """A cell for each learning rate."""
    yield from grid({"rl.optimizer.learning_rate": (1e-4, 3e-4, 1e-3)})
