"""The importance ratio of a whole macro action."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.macro_gae import of_token, segment_totals

# As for single tokens (ratios.py): beyond it the gradient is dropped.
LOG_RATIO_CLAMP = 20.0


def segment(logprobs: Array, old_logprobs: Array, mask: Array, segment_ids: Array) -> Array:
    """Ratio of the joint probabilities of a segment's tokens (MA-RLHF, arXiv:2410.02743, eq. 7).

        log_ratio[t] = sum over the tokens of t's segment of logprobs - sg(old_logprobs)

    Each token has the value of its segment and the gradient of its own log-probability. Summed over
    the segment, this is the gradient of one clipped term per macro action. The released code uses
    the ratio of each token instead.

    Args:
        logprobs: [N, T] f32, differentiated.
        old_logprobs: [N, T] f32, constant.
        mask: [N, T] bool.
        segment_ids: [N, T] i32.

    Returns:
        [N, T] f32, clamped to +-`LOG_RATIO_CLAMP` (no gradient beyond), 0 outside the mask.
    """
    chex.assert_rank(logprobs, 2)
    chex.assert_equal_shape([logprobs, old_logprobs, mask, segment_ids])
    log_ratio = jnp.where(mask, logprobs - jax.lax.stop_gradient(old_logprobs), 0.0)
    constant = jax.lax.stop_gradient(log_ratio)
    joint = of_token(segment_totals(constant, mask, segment_ids), mask, segment_ids)
    own = jnp.where(jnp.abs(joint) <= LOG_RATIO_CLAMP, log_ratio - constant, 0.0)
    return jnp.clip(joint, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP) + own
