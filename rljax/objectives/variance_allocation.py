"""Samples where they make the gradient vary least: GVM-RAFT (arXiv:2505.02391).

A prompt of success rate p whose right samples have gradients of norm G adds about G^2 / (p n) to
the variance of the gradient if it is sampled n times. Of all ways to spend a budget the least
variance has n in proportion to G / sqrt(p).
"""

from typing import NamedTuple

import numpy as np

from rljax.objectives.parts import check_field


class ByVariance(NamedTuple):
    """How the samples of a step are allotted; fields as of `by_variance`."""

    pilot_samples: int
    damping: float
    damping_power: float
    success_limit: float
    least_right: float


def by_variance(
    *,
    pilot_samples: int = 8,
    damping: float = 1e-3,
    damping_power: float = 2.0,
    success_limit: float = 1.0,
    least_right: float = 0.0,
) -> ByVariance:
    """Samples by how much the gradient of a prompt would vary, as a few of them say beforehand.

    Args:
        pilot_samples: of each prompt, of which its success rate and gradient are estimated; nothing
            is learned from them.
        damping: alpha; prompts that are hardly ever solved get fewer samples. 0 does not damp.
        damping_power: beta.
        success_limit: success rate above which a prompt gets no sample.
        least_right: right samples to expect below which a prompt gets none; 0 for any.
    """
    check_field("pilot_samples", pilot_samples, lambda x: x >= 1, ">= 1")
    check_field("damping", damping, lambda x: x >= 0, ">= 0")
    check_field("damping_power", damping_power, lambda x: x >= 0, ">= 0")
    check_field("success_limit", success_limit, lambda x: 0 < x <= 1, "in (0, 1]")
    check_field("least_right", least_right, lambda x: x >= 0, ">= 0")
    return ByVariance(pilot_samples, damping, damping_power, success_limit, least_right)


def sample_shares(
    success: np.ndarray, gradient_norms: np.ndarray, budget: int, plan: ByVariance
) -> np.ndarray:
    """The share of the budget that each prompt gets.

        w = G / sqrt(p + damping p^(1 - damping_power)),   0 where p or G is 0

    Then prompts leave whose p is above `success_limit`, or of which p w budget / sum(w) is below
    `least_right`. Where no prompt is left all get the same.

    Args:
        success: p, [B], of the pilot samples.
        gradient_norms: G, [B], mean over right pilot samples (learner/embedding_gradients.py).
        budget: samples of all prompts together.
        plan: of the damping and the limits.

    Returns:
        [B] f64, with sum 1.
    """
    rate, norms = np.asarray(success, float), np.asarray(gradient_norms, float)
    there = (rate > 0) & (norms > 0)
    safe = np.where(there, rate, 1.0)
    damped = np.sqrt(safe + plan.damping * safe ** (1 - plan.damping_power))
    shares = _normalised(np.where(there, norms / damped, 0.0))
    kept = (rate <= plan.success_limit) & (rate * shares * budget >= plan.least_right)
    return _normalised(np.where(kept & there, shares, 0.0))


def whole_samples(shares: np.ndarray, budget: int) -> np.ndarray:
    """Shares as whole numbers of samples that sum to the budget, [B] i64.

    Each is rounded, ties to even; what is missing goes to the largest remainders, what is too much
    is taken from the smallest ones.

    Args:
        shares: [B] f64, with sum 1.
        budget: samples.
    """
    exact = shares * budget
    counts = np.round(exact).astype(np.int64)
    missing = budget - int(counts.sum())
    order = np.argsort(-(exact - counts), kind="stable")
    if missing > 0:
        counts[order[:missing]] += 1
    elif missing < 0:
        counts[order[missing:]] -= 1
    return counts


def _normalised(weights: np.ndarray) -> np.ndarray:
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
