"""How much it took to reach an accuracy, for runs some of which never did."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Reached:
    """What each seed spent until it first reached the threshold.

    Attributes:
        cost: [S] f64, spent at the first evaluation at or above the threshold; for a seed that
            never got there what it had spent when it ended, which its true cost exceeds.
        reached: [S] bool, False for those (they are censored).
    """

    cost: np.ndarray
    reached: np.ndarray

    @property
    def share(self) -> float:
        """Share of seeds that reached the threshold."""
        return float(self.reached.mean())

    @property
    def median(self) -> float | None:
        """Median cost over all seeds; None where it is the cost of one that never got there."""
        half = np.median(np.where(self.reached, self.cost, np.inf))
        return float(half) if np.isfinite(half) else None

    @property
    def at_least(self) -> float:
        """A lower bound on the median, and the median itself where there is one."""
        return float(np.median(self.cost)) if self.median is None else self.median


def first_reached(accuracy: np.ndarray, cost: np.ndarray, threshold: float) -> Reached:
    """The cost of the first evaluation with `accuracy` >= `threshold`, per seed.

    Accuracy is not interpolated between evaluations, so that a cost is too high by up to one
    interval of evaluation, for every method alike. A later fall below the threshold counts
    nothing.

    Args:
        accuracy: [S, K] f64.
        cost: [S, K] or [K] f64, what had been spent at each evaluation.
        threshold: share of held-out problems, in (0, 1].
    """
    above = accuracy >= threshold
    reached = above.any(1)
    at = np.where(reached, above.argmax(1), above.shape[1] - 1)
    cost = np.broadcast_to(np.asarray(cost, np.float64), accuracy.shape)
    return Reached(np.take_along_axis(cost, at[:, None], axis=1)[:, 0], reached)


def cheaper(x: Reached, y: Reached) -> np.ndarray:
    """[N, M] f64: 1 where run n of x got there cheaper than run m of y, 0 where dearer, else 1/2.

    A run that reached the threshold is known to be cheaper than one that had spent at least as
    much without reaching it (Gehan's comparison). Where the costs are equal, both runs never got
    there, or one ended before the other had spent enough to tell, neither is ahead: 1/2.
    """
    a, b = x.cost[:, None], y.cost[None, :]
    a_reached, b_reached = x.reached[:, None], y.reached[None, :]
    ahead = a_reached & np.where(b_reached, a < b, a <= b)
    behind = b_reached & np.where(a_reached, b < a, b <= a)
    return 0.5 + 0.5 * ahead - 0.5 * behind
