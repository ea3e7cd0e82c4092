"""Statistics of scores over seeds that hold whatever the scores' distribution is.

A seed in ten may collapse, so that scores are no sample of a normal distribution, and the mean of a
handful of them is mostly what the worst one says. Hence

| what | how |
| --- | --- |
| the value of a method | the median over seeds, with the interval between two order statistics |
| a difference | the median of the differences within seeds, with the same interval |
| is there a difference | permutation of signed ranks (same seeds) or of ranks (other seeds) |
| several of these questions | Holm's correction: the chance of any wrong verdict is at most 5 % |

All of them are exact for any continuous distribution. An interval of the *mean* is not to be had:
of 8 seeds that collapse in 15 % of cases none does with probability 0.27, and what was not seen
then is in no interval. Means are reported without one, and collapsed runs are counted.

Every number is a function of its inputs: what is drawn is seeded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
POWER = 0.8
RESAMPLES = 20_000  # of a permutation test; all permutations where these are fewer
SEED = 0


class Estimate(NamedTuple):
    """A value with its interval; the ends are NaN where there is none (fewer than six seeds)."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """The median curve over seeds and the pointwise interval of that median, each [K]."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interval_rank(count: int, level: float = LEVEL) -> int | None:
    """Which order statistics hold the median of a distribution: the k-th lowest and k-th highest.

    A score lies below the median with probability 1/2, so the interval between these misses it
    with probability 2 P(B < k), B ~ Binomial(count, 1/2), whatever the distribution. k is the
    largest for which that is at most 1 - level; None where there is none, below 6 scores.
    scipy.stats.quantile_test gives the same interval, of one sample at a time.
    """
    rank = int(stats.binom.ppf((1 - level) / 2, count, 0.5))
    return rank if rank >= 1 else None


def median(scores: np.ndarray, level: float = LEVEL) -> Estimate:
    """The median of scores with its interval.

    Args:
        scores: [S] f64, one per seed.
        level: the least share of intervals that hold the median of the distribution.

    Returns:
        Without an interval for too few scores, or scores that are not finite.
    """
    band = median_band(np.asarray(scores, np.float64)[:, None], level)
    return Estimate(*(float(edge[0]) for edge in band))


def median_band(values: np.ndarray, level: float = LEVEL) -> Band:
    """The median curve over seeds with the interval of every point's median.

    Args:
        values: [S, K] f64. A point at which a seed is not finite has neither median nor interval.
        level: as of `median`.
    """
    values = np.where(np.isfinite(values).all(0), values, np.nan)
    rank = interval_rank(len(values), level)
    ordered = np.sort(values, axis=0)
    nothing = np.full(values.shape[1:], np.nan)
    low, high = (nothing, nothing) if rank is None else (ordered[rank - 1], ordered[-rank])
    return Band(np.median(values, axis=0), low, high)


class Test(NamedTuple):
    """What a test of "these two are alike" says."""

    __test__ = False  # no test of pytest

    p: float  # the chance of what was seen, or of more, were they alike; NaN: nothing can be said
    sign: float  # > 0: the first one scores higher


def signed_rank_test(differences: np.ndarray) -> Test:
    """Whether differences within seeds [S] are as often below 0 as above (Wilcoxon's signed ranks).

    Signs are permuted, so ties and zeros need no approximation.
    """
    d = np.asarray(differences, np.float64)
    if not np.isfinite(d).all():
        return Test(math.nan, 0.0)
    ranks = np.sign(d) * stats.rankdata(np.abs(d))
    if not ranks.any():
        return Test(1.0, 0.0)
    return Test(_permuted((ranks,), _sum, "samples"), float(ranks.sum()))


def rank_sum_test(x: np.ndarray, y: np.ndarray) -> Test:
    """Whether scores [N] and [M] of different seeds are alike (Wilcoxon's rank sum)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Test(math.nan, 0.0)
    ranks = stats.rankdata(np.concatenate([x, y]))
    a, b = ranks[: len(x)], ranks[len(x) :]
    if np.ptp(ranks) == 0 or not (len(a) and len(b)):
        return Test(1.0, 0.0)
    return Test(_permuted((a, b), _gap, "independent"), float(a.mean() - b.mean()))


def _sum(ranks: np.ndarray, axis: int = -1) -> np.ndarray:
    return ranks.sum(axis)


def _gap(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    return a.mean(axis) - b.mean(axis)


def _permuted(samples: tuple[np.ndarray, ...], statistic: Callable, kind: str) -> float:
    """The p-value of a two-sided permutation test, seeded."""
    found = stats.permutation_test(
        samples,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (Holm 1979): rejecting those <= a errs anywhere with probability <= a.

    adjusted_(k) = max over j <= k of min(1, (n - j + 1) p_(j)), of the ordered p-values. NaN is no
    test: it stays, and does not count.
    """
    p = np.asarray(p, np.float64)
    adjusted, asked = p.copy(), np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> float:
    """P(X > Y), the chance that a run of the one method scores above a run of the other.

        P = mean over all pairs (n, m) of  1 if x_n > y_m, 1/2 if x_n = y_m, 0 if x_n < y_m

    (Mann and Whitney's statistic; Agarwal et al. 2021, arXiv:2108.13264, section 4.3). Seeds are
    not paired.
    """
    x, y = np.asarray(x, np.float64)[:, None], np.asarray(y, np.float64)[None, :]
    wins = np.where(np.isnan(x) | np.isnan(y), np.nan, (x > y) + 0.5 * (x == y))
    return float(wins.mean())


def enough_seeds(count: int, other: int | None = None, *, tests: int = 1) -> bool:
    """Whether so few seeds can show anything, whatever they score.

    If two methods are alike, all of n paired differences have the same sign with probability
    2 / 2^n, and all of n scores lie on the same side of all of m with 2 / binomial(n + m, n).
    Where even that is likelier than (1 - LEVEL) / tests, no data would be enough: 5 pairs, 3
    against 3; 8 pairs for 7 verdicts.

    Args:
        count: paired differences, or scores of the one method.
        other: scores of the other method when they are not paired.
        tests: verdicts that are corrected for their number.
    """
    ways = 2.0**count if other is None else float(math.comb(count + other, count))
    return 2 / ways <= (1 - LEVEL) / max(tests, 1)


def least_seeds(tests: int) -> int:
    """How many shared seeds `tests` verdicts need at the least."""
    return next(count for count in range(1, 1000) if enough_seeds(count, tests=tests))


@functools.cache
def detectable(count: int, tests: int = 1) -> float:
    """The difference that is found with `POWER`, in deviations of the differences within seeds.

    For normal differences, at the strictest level of Holm's correction, (1 - LEVEL) / tests; by
    simulation, to about two digits. Infinite where `enough_seeds` says no.

    Args:
        count: shared seeds.
        tests: verdicts.
    """
    if not enough_seeds(count, tests=tests):
        return math.inf
    rng, level = np.random.default_rng(SEED), (1 - LEVEL) / max(tests, 1)
    # The signed ranks of a difference of 0: each rank up or down.
    signs = rng.integers(0, 2, (200_000, count)) * 2 - 1
    if count <= 16:
        signs = 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1) - 1
    null = np.sort((signs * np.arange(1, count + 1)).sum(axis=1))
    noise = rng.normal(size=(4000, count))

    def power(shift: float) -> float:
        d = noise + shift
        found = (np.sign(d) * stats.rankdata(np.abs(d), axis=1)).sum(axis=1)
        at_least = 1 - np.searchsorted(null, found, side="left") / len(null)
        return float((2 * at_least <= level).mean())

    low, high = 0.0, 64.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


BETTER, WORSE, ALIKE = "better", "worse", "not distinguishable"


def verdict(adjusted: float, sign: float) -> str:
    """'better' or 'worse' where the adjusted p-value is at most 1 - LEVEL; NaN says nothing."""
    if not adjusted <= 1 - LEVEL or sign == 0:
        return ALIKE
    return BETTER if sign > 0 else WORSE
