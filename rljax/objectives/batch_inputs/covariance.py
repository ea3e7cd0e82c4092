"""Tokens whose advantage and log-probability covary: these tokens lower the entropy.

Both methods of "The Entropy Mechanism of RL for Reasoning Language Models" (arXiv:2505.22617).
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.batch_inputs.ranking import highest, lowest, share_of
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import token
from rljax.objectives.surrogates.clipped import clipped_tokens

SHARE = (lambda x: 0 <= x <= 1, "in [0, 1]")


def token_covariance(current_logprobs: Array, advantages: Array, mask: Array) -> Array:
    """(A - mean A) * (logprobs - mean logprobs), means over the batch's tokens.

    Args:
        current_logprobs: [N, T] f32.
        advantages: [N, T] f32.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    chex.assert_equal_shape([current_logprobs, advantages, mask])
    count = jnp.maximum(mask.sum(), 1)

    def centred(values: Array) -> Array:
        values = jnp.where(mask, jax.lax.stop_gradient(values), 0.0)
        return jnp.where(mask, values - values.sum() / count, 0.0)

    return centred(advantages) * centred(current_logprobs)


def high_covariance(
    current_logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    covariance_share: float = 2e-4,
) -> Array:
    """The share of tokens with the highest covariance, at least one (KL-Cov).

    Args:
        current_logprobs: [N, T] f32, before the update.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        covariance_share: share of the tokens that are treated, by their covariance.

    Returns:
        [N, T] bool: max(1, int(tokens * share)) of them; none for an all-False mask.

    Raises:
        ValueError: if the share is not in [0, 1].
    """
    check_field("covariance_share", covariance_share, *SHARE)
    covariance = token_covariance(current_logprobs, advantages, mask)
    return highest(covariance, mask, jnp.maximum(share_of(mask, covariance_share), 1))


def clip_cov(
    current_logprobs: Array,
    old_logprobs: Array,
    advantages: Array,
    mask: Array,
    noise: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    covariance_share: float = 2e-4,
    covariance_low: float = 1.0,
    covariance_high: float = 5.0,
) -> Array:
    """0 on a random choice of tokens of high covariance (Clip-Cov), else 1.

    The choice is among tokens that the clipped loss has not stopped and whose covariance is
    between the bounds: max(1, int(tokens * share)) of them, or all if there are fewer. They stay
    in the denominator of the mean.

    Args:
        current_logprobs: [N, T] f32, before the update.
        old_logprobs: [N, T] f32, denominator of the token ratio.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        noise: [N, T] f32, uniform and fresh: the tokens with the lowest numbers are chosen.
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1.
        covariance_share: share of the tokens that are treated, by their covariance.
        covariance_low: bound above which the covariance of a candidate lies.
        covariance_high: bound below which the covariance of a candidate lies.

    Returns:
        [N, T] f32 of 0 and 1; 1 outside the mask. With bounds that leave no candidate it is 1
        everywhere, which is PPO.

    Raises:
        ValueError: for a negative clip width or a share that is not in [0, 1].
    """
    check_field("covariance_share", covariance_share, *SHARE)
    log_ratio = token(current_logprobs, old_logprobs, mask)
    stopped = clipped_tokens(log_ratio, advantages, mask, clip_low=clip_low, clip_high=clip_high)
    covariance = token_covariance(current_logprobs, advantages, mask)
    between = (covariance > covariance_low) & (covariance < covariance_high)
    count = jnp.maximum(share_of(mask, covariance_share), 1)
    return 1.0 - lowest(noise, mask & ~stopped & between, count)
