"""Samples that the policy has moved away from are not pushed down any further."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.corrections.importance import sampler_log_ratio
from rljax.objectives.parts import check_field


def off_policy(
    current_logprobs: Array,
    behavior_logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    off_policy_divergence: float = 0.05,
) -> Array:
    """Off-policy sequence mask (DeepSeek-V3.2, arXiv:2512.02556; TRL `off_policy_mask_threshold`).

        weight = 1 where A >= 0 or the row's mean of (log sampler - log current) <= divergence
                 0 elsewhere

    The policy here is the one before the update, so that all of the distance counts: of the sampler
    from the trainer, and of the trainer from the step's start.

    Args:
        current_logprobs: [N, T] f32, before the update.
        behavior_logprobs: [N, T] f32; what is not finite counts as a ratio of 1.
        advantages: [N, T] f32.
        mask: [N, T] bool; a row without a True has a mean of 0.
        off_policy_divergence: highest mean k1 of a row that is pushed down, nats per token.

    Returns:
        [N, T] f32, constant; 1 outside the mask.

    Raises:
        ValueError: if the divergence is negative.
    """
    check_field("off_policy_divergence", off_policy_divergence, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([advantages, mask])
    gap = -sampler_log_ratio(current_logprobs, behavior_logprobs, mask)
    mean = gap.sum(axis=-1, keepdims=True) / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    rising = jax.lax.stop_gradient(advantages) >= 0
    return jnp.where(mask & ~rising & (mean > off_policy_divergence), 0.0, 1.0)
