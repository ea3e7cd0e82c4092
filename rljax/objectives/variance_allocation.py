"""Samples where they make the gradient vary least: GVM-RAFT (arXiv:2505.02391).

A prompt of success rate p whose right samples have gradients of norm G adds about G^2 / (p n) to
the variance of the gradient if it is sampled n times. Of all ways to spend a budget the least
variance has n in proportion to G / sqrt(p).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

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


def sample_shares(success: Array, gradient_norms: Array, budget: int, plan: ByVariance) -> Array:
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
        [B] f32, with sum 1.
    """
    rate, norms = jnp.asarray(success, float), jnp.asarray(gradient_norms, float)
    there = (rate > 0) & (norms > 0)
    safe = jnp.where(there, rate, 1.0)
    damped = jnp.sqrt(safe + plan.damping * safe ** (1 - plan.damping_power))
    shares = _normalised(jnp.where(there, norms / damped, 0.0))
    kept = (rate <= plan.success_limit) & (rate * shares * budget >= plan.least_right)
    return _normalised(jnp.where(kept & there, shares, 0.0))


def whole_samples(shares: Array, budget: int) -> Array:
    """Shares as whole numbers of samples that sum to the budget, [B] i32.

    Each is rounded, ties to even; what is missing goes to the largest remainders, what is too much
    is taken from the smallest ones.

    Args:
        shares: [B] f32, with sum 1.
        budget: samples.
    """
    exact = shares * budget
    counts = jnp.round(exact).astype(jnp.int32)
    missing = budget - counts.sum()
    order = jnp.argsort(counts - exact, stable=True)  # the largest remainder first
    place = jnp.zeros(len(counts), jnp.int32).at[order].set(jnp.arange(len(counts)))
    more, less = place < missing, place >= len(counts) + missing
    return counts + more - less


def _normalised(weights: Array) -> Array:
    total = weights.sum()
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 1 / len(weights))
