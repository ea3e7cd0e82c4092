"""Surrogates that weigh the log-probability itself: no ratio to differentiate."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount


def policy_gradient(
    log_ratio: Array, logprobs: Array, advantages: Array, mask: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Plain policy gradient: loss = -A * logprobs (REINFORCE; no ratio, nothing clipped).

    Args:
        log_ratio: [N, T] f32; not read.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.

    Returns:
        [N, T] loss, zero outside the mask, and no metrics.
    """
    chex.assert_equal_shape([log_ratio, logprobs, advantages, mask])
    advantages = jax.lax.stop_gradient(advantages)
    # Both sides of the product are cleaned: a masked slot may hold -inf.
    loss = -jnp.where(mask, advantages, 0.0) * jnp.where(mask, logprobs, 0.0)
    return loss, {}
