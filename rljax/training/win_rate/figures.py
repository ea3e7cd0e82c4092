"""Outcomes of comparisons to a win rate with its interval, on the host.

An outcome is what the first side gets of a comparison: 1 for a win, 1/2 for a tie, 0 for a loss.
Comparisons of one prompt are no independent draws: intervals are over prompts.
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

LEVEL = 0.95
RESAMPLES = 2000
SEED = 0
# Precision of the normal distributions around 0 that the parameters of the fit are drawn to: it
# only matters where every comparison ends alike, and a parameter would be infinite.
PRIOR = 0.1
NEWTON_STEPS = 50


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


def wilson_interval(outcomes: np.ndarray, level: float = LEVEL) -> Interval:
    """The mean of outcomes with Wilson's score interval.

        centre = (p + z^2 / 2n) / (1 + z^2 / n)
        half   = z / (1 + z^2 / n) sqrt(p (1 - p) / n + z^2 / 4n^2)

    It is of shares of n draws that are 0 or 1. Outcomes in between, of ties or of prompts with
    several comparisons, vary less than these: then it is too wide, never too narrow.

    Args:
        outcomes: [N] f64 in [0, 1], one for each prompt, N > 0.
        level: of the interval.
    """
    count, share = len(outcomes), float(np.mean(outcomes))
    z = float(stats.norm.ppf((1 + level) / 2))
    shrink = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Interval(share, float(max(centre - half, 0.0)), float(min(centre + half, 1.0)))


def length_controlled(outcomes: np.ndarray, lengths: np.ndarray) -> float:
    """The win rate that a logistic regression expects of completions of equal length.

        P(first wins) = sigmoid(a + b tanh((n_1 - n_2) / s)),    s = std of n_1 - n_2

    The value is sigmoid(a). This is the length term of AlpacaEval 2 (arXiv:2404.04475, eq. 3),
    without its terms of single models and instructions.

    Args:
        outcomes: [N] f64 in [0, 1].
        lengths: [N, 2] f64, of the first and of the second side.
    """
    more = np.asarray(lengths, np.float64) @ np.array([1.0, -1.0])
    deviation = more.std()
    column = np.tanh(more / deviation) if deviation > 0 else np.zeros(len(more))
    features = np.stack([np.ones(len(more)), column], axis=1)
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        expected = special.expit(features @ weights)
        slope = features.T @ (outcomes - expected) - PRIOR * weights
        spread = expected * (1 - expected)
        curvature = (features * spread[:, None]).T @ features + PRIOR * np.eye(2)
        change = np.linalg.solve(curvature, slope)
        weights = weights + change
        if np.abs(change).max() < 1e-10:
            break
    return float(special.expit(weights[0]))


def length_controlled_interval(
    outcomes: np.ndarray, lengths: np.ndarray, level: float = LEVEL
) -> Interval:
    """`length_controlled` of all comparisons, with a bootstrap interval over prompts.

    Args:
        outcomes: [N, K] f64, K comparisons of each prompt.
        lengths: [N, K, 2] f64.
        level: of the interval.
    """
    draw = np.random.default_rng(SEED)
    count = len(outcomes)

    def value(index: np.ndarray) -> float:
        return length_controlled(outcomes[index].reshape(-1), lengths[index].reshape(-1, 2))

    drawn = [value(draw.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value(np.arange(count)), float(low), float(high))


def win_rate_figures(outcomes: np.ndarray, lengths: np.ndarray) -> dict[str, float | list[float]]:
    """All figures of a comparison.

    Args:
        outcomes: [N, K] f64 in [0, 1], of N prompts with K comparisons each.
        lengths: [N, K, 2] f64, of the completions that were compared.
    """
    whole = wilson_interval(outcomes.mean(axis=1))
    equal = length_controlled_interval(outcomes, lengths)
    return {
        "prompts": len(outcomes),
        "comparisons": outcomes.size,
        "wins": int((outcomes > 0.5).sum()),
        "ties": int((outcomes == 0.5).sum()),
        "losses": int((outcomes < 0.5).sum()),
        "win_rate": whole.value,
        "win_rate_interval": [whole.low, whole.high],
        "length_controlled_win_rate": equal.value,
        "length_controlled_interval": [equal.low, equal.high],
        "mean_lengths": [float(each) for each in lengths.mean(axis=(0, 1))],
    }
