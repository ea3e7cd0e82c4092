"""STEER (arXiv:2510.10150): tokens that would change the entropy most weigh less.

    Omega = A / p_old * p * (1 - p) * (log p + H),   H the entropy of the old policy

Omega is the change of a token's entropy, negated and approximate: `entropy_change`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field

# Clamps of the authors' code: probabilities before they are divided by or go into a logarithm.
SMALLEST_PROBABILITY = 1e-8


def entropy_change(
    current_logprobs: Array,
    old_logprobs: Array,
    old_entropy: Array,
    advantages: Array,
    mask: Array,
) -> Array:
    """Omega: what a step on one token does to the entropy there, negated and approximate.

        Omega = A / p_old * p * (1 - p) * (log p + H)

    Positive where the entropy falls: a likely token (log p > -H) with A > 0, say.

    Args:
        current_logprobs: [N, T] f32, log p, before the update.
        old_logprobs: [N, T] f32, log p_old.
        old_entropy: [N, T] f32, H of the old policy at the token's position.
        advantages: [N, T] f32.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, constant; 0 outside the mask and where it would not be finite.
    """
    chex.assert_equal_shape([current_logprobs, old_logprobs, old_entropy, advantages, mask])
    inputs = (current_logprobs, old_logprobs, old_entropy, advantages)
    logprobs, old, entropy, advantages = (
        jnp.where(mask, jax.lax.stop_gradient(x), 0.0) for x in inputs
    )
    p = jnp.clip(jnp.exp(logprobs), SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    p_old = jnp.clip(jnp.exp(old), SMALLEST_PROBABILITY, 1.0)
    omega = advantages / p_old * p * (1.0 - p) * (jnp.log(p) + entropy)
    return jnp.where(mask & jnp.isfinite(omega), omega, 0.0)


def exact_entropy_change(
    logits: Array, tokens: Array, advantages: Array, old_logprobs: Array
) -> Array:
    """First-order change of the entropy by a gradient step of size 1 on the logits of a softmax.

        dH = -A * p / p_old * [p (log p + H) - sum_j p_j^2 (log p_j + H)]

    A diagnostic: it needs the vocabulary. `entropy_change` drops the sum.

    Args:
        logits: [..., V] f32.
        tokens: [...] i32, the sampled token.
        advantages: [...] f32.
        old_logprobs: [...] f32, of the sampled token.

    Returns:
        [...] f32, constant.
    """
    chex.assert_equal_shape([tokens, advantages, old_logprobs])
    logp = jax.nn.log_softmax(jax.lax.stop_gradient(logits), axis=-1)
    p = jnp.exp(logp)
    entropy = -jnp.sum(p * logp, axis=-1, keepdims=True)
    pull = p * (logp + entropy)  # minus the gradient of the entropy in the logits

    def taken(values: Array) -> Array:
        return jnp.take_along_axis(values, tokens[..., None], axis=-1)[..., 0]

    weight = advantages * jnp.exp(taken(logp) - old_logprobs)
    return jax.lax.stop_gradient(-weight * (taken(pull) - jnp.sum(p * pull, axis=-1)))


def steer_linear(
    current_logprobs: Array,
    old_logprobs: Array,
    old_entropy: Array,
    advantages: Array,
    mask: Array,
    *,
    steer_low: float = 0.8,
    steer_high: float = 1.2,
) -> Array:
    """Weights that fall linearly with u = |Omega|, over the batch's tokens.

        w = high - (u - min u) * (high - low) / (max u - min u)

    Mind that most u are near 0: the mean weight is then near `steer_high`, not 1. The authors' code
    takes the extremes of each micro-batch, this function those of the whole batch.

    Args:
        current_logprobs: [N, T] f32, before the update.
        old_logprobs: [N, T] f32.
        old_entropy: [N, T] f32.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        steer_low: weight of the token with the largest change of entropy.
        steer_high: weight of the token with the smallest change of entropy.

    Returns:
        [N, T] f32, constant, 0 outside the mask; the mean of both ends where all changes agree.

    Raises:
        ValueError: if a weight is negative.
    """
    for name, value in {"steer_low": steer_low, "steer_high": steer_high}.items():
        check_field(name, value, lambda x: x >= 0, ">= 0")
    size = jnp.abs(entropy_change(current_logprobs, old_logprobs, old_entropy, advantages, mask))
    largest = jnp.where(mask, size, -jnp.inf).max()
    smallest = jnp.where(mask, size, jnp.inf).min()
    apart = largest > smallest
    place = jnp.where(apart, (size - smallest) / jnp.where(apart, largest - smallest, 1.0), 0.5)
    return jnp.where(mask, steer_high - place * (steer_high - steer_low), 0.0)


def steer_exponential(
    current_logprobs: Array,
    old_logprobs: Array,
    old_entropy: Array,
    advantages: Array,
    mask: Array,
    *,
    steer_low: float = 0.8,
    steer_scale_floor: float = 0.02,
) -> Array:
    """Weights that fall exponentially with u = |Omega|, over the batch's tokens.

        w = steer_low ^ (u / max(max u, steer_scale_floor))

    The authors' code takes the largest u of each micro-batch, this function that of the batch.

    Args:
        current_logprobs: [N, T] f32, before the update.
        old_logprobs: [N, T] f32.
        old_entropy: [N, T] f32.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        steer_low: weight of the token with the largest change of entropy.
        steer_scale_floor: change up to which all weights stay near 1; 0 is the paper's form, the
            floor is in the authors' code only.

    Returns:
        [N, T] f32 in [steer_low, 1], constant, 0 outside the mask.

    Raises:
        ValueError: if `steer_low` is not in (0, 1] or the floor is negative.
    """
    check_field("steer_low", steer_low, lambda x: 0 < x <= 1, "in (0, 1]")
    check_field("steer_scale_floor", steer_scale_floor, lambda x: x >= 0, ">= 0")
    size = jnp.abs(entropy_change(current_logprobs, old_logprobs, old_entropy, advantages, mask))
    scale = jnp.maximum(size.max(), steer_scale_floor)
    weights = jnp.exp(jnp.log(steer_low) * size / jnp.where(scale > 0, scale, 1.0))
    return jnp.where(mask, jnp.clip(weights, steer_low, 1.0), 0.0)
