"""Two methods compared: how large the difference is, and whether chance alone would make it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.comparison import statistics
from rljax.comparison.censoring import Reached, cheaper
from rljax.comparison.statistics import ALIKE, Estimate, Test


@dataclasses.dataclass(frozen=True)
class Contrast:
    """One method against another.

    Attributes:
        effect: median difference within seeds, or of medians where seeds differ (then without an
            interval); of costs P(the first is cheaper).
        test: whether both are alike.
        seeds: of the first and of the second.
        paired: whether the seeds are the same.
        lost: values that are not finite, which leave nothing to say.
    """

    effect: Estimate
    test: Test
    seeds: tuple[int, int]
    paired: bool
    lost: int = 0

    def doubt(self, tests: int) -> str:
        """Why no verdict is possible among `tests` of them, or ""."""
        if self.lost:
            return f"{self.lost} of {sum(self.seeds)} values are not finite"
        few, other = self.seeds
        if not statistics.enough_seeds(few, None if self.paired else other, tests=tests):
            among = f" for {tests} verdicts" if tests > 1 else ""
            return f"too few seeds ({few}){among}" if few == other else f"too few seeds{among}"
        return ""


def of_scores(x: np.ndarray, y: np.ndarray, *, paired: bool) -> Contrast:
    """Scores [N] and [M]; with `paired` those of the same seeds in the same order."""
    seeds = len(x), len(y)
    lost = int((~np.isfinite(x)).sum() + (~np.isfinite(y)).sum())
    if paired:
        effect = statistics.median(x - y)
        test = statistics.signed_rank_test(x - y)
    else:
        effect = Estimate(float(np.median(x) - np.median(y)), math.nan, math.nan)
        test = statistics.rank_sum_test(x, y)
    return Contrast(effect, test, seeds, paired, lost)


def of_costs(x: Reached, y: Reached) -> Contrast:
    """What runs took to a threshold, some of which never got there; seeds are not paired.

    A run's score is how many of all runs it is cheaper than (Gehan 1965), and these are ranked.
    """
    chance = Estimate(float(cheaper(x, y).mean()), math.nan, math.nan)
    every = Reached(np.concatenate([x.cost, y.cost]), np.concatenate([x.reached, y.reached]))
    wins = cheaper(every, every).sum(axis=1)
    test = statistics.rank_sum_test(wins[: len(x.cost)], wins[len(x.cost) :])
    return Contrast(chance, test, (len(x.cost), len(y.cost)), paired=False)


class Verdict(NamedTuple):
    """What is said of a contrast, among others."""

    said: str  # of the first method: 'better', 'worse' or 'not distinguishable'
    p: float  # corrected for the number of contrasts; NaN where values are not finite
    reason: str  # why nothing can be said, or ""


def verdicts(contrasts: Sequence[Contrast]) -> list[Verdict]:
    """Verdicts that are wrong anywhere with a chance of at most 5 % (Holm).

    Args:
        contrasts: all that are reported together; the first method is better where its values, or
            the ranks of its costs, are higher.
    """
    corrected = statistics.holm([each.test.p for each in contrasts]).tolist()
    found = []
    for one, p in zip(contrasts, corrected, strict=True):
        reason = one.doubt(len(contrasts))
        said = ALIKE if reason else statistics.verdict(p, one.test.sign)
        found.append(Verdict(said, p, reason))
    return found
