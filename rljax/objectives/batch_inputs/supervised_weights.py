"""SRFT (arXiv:2506.19767): supervised and reinforced rows weighed by the policy's entropy."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field


def srft(
    current_entropy: Array,
    advantages: Array,
    mask: Array,
    demonstration: Array,
    *,
    srft_demonstration: float = 0.5,
    srft_right: float = 0.1,
) -> Array:
    """Weights by the row's mean token entropy H.

        demonstrations: srft_demonstration * exp(-H)
        sampled rows:   srft_right * exp(H) where A > 0, else 1

    The method's advantage is this weight times 1 for demonstrations and right samples, and times
    -1 for wrong samples. It has no group baseline.

    Args:
        current_entropy: [N, T] f32, nats, before the update.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        demonstration: [N] bool, rows that were not sampled.
        srft_demonstration: weight of demonstrations at zero entropy.
        srft_right: weight of right samples at zero entropy.

    Returns:
        [N, T] f32, constant; 1 outside the mask.

    Raises:
        ValueError: if a weight is negative.
    """
    for name, value in {
        "srft_demonstration": srft_demonstration,
        "srft_right": srft_right,
    }.items():
        check_field(name, value, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([current_entropy, advantages, mask])
    entropy = jnp.where(mask, jax.lax.stop_gradient(current_entropy), 0.0)
    mean = entropy.sum(axis=-1, keepdims=True) / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    sampled = jnp.where(advantages > 0, srft_right * jnp.exp(mean), 1.0)
    shown = srft_demonstration * jnp.exp(-mean)
    return jnp.where(mask, jnp.where(demonstration[:, None], shown, sampled), 1.0)
