"""Rows that were not sampled: their ratio has no sampling probability as its denominator."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import mean_of
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


def shaped_likelihood(
    logprobs: Array, advantages: Array, mask: Array, *, shaping: float | None = 0.1
) -> tuple[Array, dict[str, SumCount]]:
    """Loss of demonstrated tokens (LUFFY, arXiv:2504.14945), p = exp(logprobs).

        loss = -A * p / (p + shaping)

    Importance sampling with a denominator of 1, reshaped: the gradient has the weight
    shaping * p / (p + shaping)^2, largest at p = shaping, so that tokens which the policy finds
    unlikely still count. Nothing is clipped.

    Args:
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        shaping: c of p / (p + c), None for the likelihood p itself.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `demonstration_probability`.

    Raises:
        ValueError: if `shaping` is not positive.
    """
    check_field("shaping", shaping, lambda x: x > 0, "> 0, or None for p itself")
    _, logprobs, advantages = cleaned(logprobs, logprobs, advantages, mask)
    likelihood = jnp.exp(logprobs)
    value = likelihood if shaping is None else likelihood / (likelihood + shaping)
    return -advantages * value, {"demonstration_probability": masked(likelihood, mask)}


def unsure_likelihood(
    logprobs: Array, entropy: Array, mask: Array, *, demonstration_nll: float = 0.0
) -> tuple[Array, dict[str, SumCount]]:
    """Negative log-likelihood of demonstrations, less of those that the policy is unsure of (SRFT).

        loss = -weight * exp(-H) * log p,   H: mean entropy of the demonstration's tokens, constant

    Args:
        logprobs: [N, T] f32, differentiated.
        entropy: [N, T] f32, nats, of the policy as it is.
        mask: [N, T] bool.
        demonstration_nll: the weight.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `demonstration_entropy`.
    """
    unsure = mean_of(jax.lax.stop_gradient(entropy), mask, axis=-1)
    weight = demonstration_nll * jnp.exp(-unsure)[:, None]
    metrics = {"demonstration_entropy": masked(entropy, mask)}
    return -weight * jnp.where(mask, logprobs, 0.0), metrics


def guided_ratio(
    log_ratio: Array, advantages: Array, mask: Array, *, guided_cap: float | None = None
) -> tuple[Array, dict[str, SumCount]]:
    """Loss of tokens that were sampled behind a hint which the policy does not see.

        loss = -A r,   r = pi(y_t | x, y_<t) / pi_old(y_t | x, hint, y_<t)

    Nothing is clipped: ratios start far from 1 (Guide, arXiv:2506.13923).

    Args:
        log_ratio: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        guided_cap: largest ratio, beyond which a token has no gradient; None for none, as there.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `guided_ratio_mean`.
    """
    check_field("guided_cap", guided_cap, lambda x: x > 1, "> 1, or None for no cap")
    log_ratio, _, advantages = cleaned(log_ratio, log_ratio, advantages, mask)
    ratio = jnp.exp(log_ratio)
    kept = ratio if guided_cap is None else jnp.minimum(ratio, guided_cap)
    return -advantages * kept, {"guided_ratio_mean": masked(ratio, mask)}
