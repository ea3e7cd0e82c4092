"""Surrogates on bounds of a sample's log-likelihood, for models that know no more (bounds.py).

They read what each draw of masks says of the tokens and look at whole samples: all tokens of one
have the same loss, to be averaged over them.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.bounds import lower_per_token, sequence_bounds, upper_per_token
from rljax.objectives.metrics import SumCount
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import LOG_RATIO_CLAMP

NEGATIVE_BOUNDS = ("mixture", "upper", "lower", "none")
BOUNDARY_TERMS = ("both", "linear", "exponential", "exact")


def sandwich(
    draw_logprobs: Array,
    draw_weights: Array,
    advantages: Array,
    mask: Array,
    *,
    negative_bound: str = "mixture",
    upper_power: float = 1.5,
    upper_weight: float = 0.5,
) -> tuple[Array, dict[str, SumCount]]:
    """Raises a lower bound of good samples, lowers an upper one of bad ones (arXiv:2510.09541).

        loss = -A * lower                                              where A > 0
        loss = -A * (upper_weight * upper + (1 - upper_weight) * lower)     elsewhere

    Both bounds are per token. Lowering a lower bound would say nothing about the likelihood.

    Args:
        draw_logprobs: [N, T, M] f32, differentiated.
        draw_weights: [N, T, M] f32, constant.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        negative_bound: what is lowered: the mixture, the upper bound, the lower one, or none.
        upper_power: beta of the upper bound (1.5 on GSM8K, 1.0 on Sudoku).
        upper_weight: share of the upper bound in the mixture.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `lower_bound` and `upper_bound`, nats
        per token, in mean over the samples.

    Raises:
        ValueError: for an unknown bound, a power that is not positive or a share outside [0, 1].
    """
    check_field(
        "negative_bound", negative_bound, NEGATIVE_BOUNDS.__contains__, f"{NEGATIVE_BOUNDS}"
    )
    check_field("upper_power", upper_power, lambda x: x > 0, "> 0")
    check_field("upper_weight", upper_weight, lambda x: 0 <= x <= 1, "in [0, 1]")
    advantages = _cleaned(draw_logprobs, draw_weights, advantages, mask)
    lower = lower_per_token(draw_logprobs, draw_weights, mask)
    upper = upper_per_token(draw_logprobs, draw_weights, mask, power=upper_power)
    negative = {
        "mixture": upper_weight * upper + (1 - upper_weight) * lower,
        "upper": upper,
        "lower": lower,
        "none": jnp.zeros_like(lower),
    }[negative_bound]
    bound = jnp.where(advantages > 0, lower[:, None], negative[:, None])
    metrics = {"lower_bound": _mean_of_samples(lower, mask)}
    metrics["upper_bound"] = _mean_of_samples(upper, mask)
    return jnp.where(mask, -advantages * bound, 0.0), metrics


def boundary(
    draw_logprobs: Array,
    draw_weights: Array,
    old_draw_logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    boundary_terms: str = "both",
    bound_per_token: bool = False,
) -> tuple[Array, dict[str, SumCount]]:
    """A lower bound of the objective that is a sum over draws (BGPO, arXiv:2510.11683, eq. 13).

        loss = -1 / M sum_j g[j],   d[j] = bound of draw j - the same under the old policy
        g[j] = (1 + d[j]) A         where A >= 0
        g[j] = exp(d[j]) A          where A < 0

    It is below exp(mean of d) A, with the same value and gradient where the policy has not moved.
    The bound of a draw is a sum over the tokens of a sample.

    Args:
        draw_logprobs: [N, T, M] f32, differentiated.
        draw_weights: [N, T, M] f32, constant, of both policies: they see the same draws.
        old_draw_logprobs: [N, T, M] f32, under the policy that the step started from; constant.
        advantages: [N, T] f32, constant, the same for all tokens of a sample.
        mask: [N, T] bool.
        boundary_terms: both, as above; linear: 1 + d for all; exponential: exp(d) for all; exact:
            exp(mean of d), which is bounded, as VRPO's online form has it.
        bound_per_token: divide d by the number of tokens, which keeps exp(d) tame (ESPO).

    Returns:
        [N, T] loss, zero outside the mask, and the metric `bound_log_ratio`, the mean of d. d in
        an exponential is at most `LOG_RATIO_CLAMP`, beyond which it has no gradient.

    Raises:
        ValueError: for unknown terms.
    """
    check_field("boundary_terms", boundary_terms, BOUNDARY_TERMS.__contains__, f"{BOUNDARY_TERMS}")
    advantages = _cleaned(draw_logprobs, draw_weights, advantages, mask)
    tokens = jnp.maximum(mask.sum(axis=1), 1)
    advantage = (advantages.sum(axis=1) / tokens)[:, None]
    old = jax.lax.stop_gradient(sequence_bounds(old_draw_logprobs, draw_weights, mask))
    change = sequence_bounds(draw_logprobs, draw_weights, mask) - old
    if bound_per_token:
        change = change / tokens[:, None]
    metrics = {"bound_log_ratio": _mean_of_samples(change.mean(axis=1), mask)}
    if boundary_terms == "exact":
        change = change.mean(axis=1, keepdims=True)
    linear, power = 1.0 + change, jnp.exp(jnp.minimum(change, LOG_RATIO_CLAMP))
    factor = {
        "both": jnp.where(advantage >= 0, linear, power),
        "linear": linear,
        "exponential": power,
        "exact": power,
    }[boundary_terms]
    objective = (factor * advantage).mean(axis=1)
    return jnp.where(mask, -objective[:, None], 0.0), metrics


def _cleaned(draw_logprobs: Array, draw_weights: Array, advantages: Array, mask: Array) -> Array:
    """The advantages, constant and 0 outside the mask; checks shapes."""
    chex.assert_rank(draw_logprobs, 3)
    chex.assert_equal_shape([draw_logprobs, draw_weights])
    chex.assert_equal_shape([advantages, mask])
    return jnp.where(mask, jax.lax.stop_gradient(advantages), 0.0)


def _mean_of_samples(values: Array, mask: Array) -> SumCount:
    """[N] -> the mean over rows that hold a token."""
    present = mask.any(axis=1)
    return SumCount(jnp.where(present, values, 0.0).sum(), present.sum().astype(values.dtype))
