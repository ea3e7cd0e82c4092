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
    """Omega: by how much a step on one token lowers the entropy there, approximately.

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

    Most u are near 0: the mean weight is then near `steer_high`, not 1. The authors' code takes the
    extremes of each micro-batch, this function those of the whole batch.

    Args:
        current_logprobs: [N, T] f32, before the update.
        old_logprobs: [N, T] f32.
        old_entropy: [N, T] f32.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        steer_low: weight of the token with the largest change of entropy.
        steer_high: weight of the token with the smallest change of entropy.

    Returns:
        [N, T] f32, constant, 0 outside the mask; (low + high) / 2 where all changes agree.

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
        steer_scale_floor: least scale of u: where all changes are far below it, all weights stay
            near 1. 0 is the paper's form; only the authors' code has the floor.

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
