"""The denominator of the importance ratio: which policy the samples are compared with.

Each part returns the log of policy / denominator, [N, T]. A ratio per sequence or per segment has
its value on every token that it covers, and each of these tokens has the gradient of its own
log-probability. With equal weights for the tokens of a sequence, their sum is the gradient of the
sequence's ratio; and tokens may still differ in advantage (GSPO-token, arXiv:2507.18071).
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.segment_ratio import segment

# verl and tunix clamp the log-ratio to this before exp. Beyond it the ratio is no longer a
# meaningful weight (e^20 = 5e8), and its gradient is dropped.
LOG_RATIO_CLAMP = 20.0
# Both cap the log of a ratio per sequence at this.
SEQUENCE_LOG_RATIO_CAP = 10.0


def _check(logprobs: Array, old_logprobs: Array, mask: Array) -> None:
    chex.assert_rank(logprobs, 2)
    chex.assert_equal_shape([logprobs, old_logprobs, mask])


def none(logprobs: Array, old_logprobs: Array, mask: Array) -> Array:
    """The policy itself: the ratio is 1 and only its gradient is left (REINFORCE, RLOO).

    Args:
        logprobs: [N, T] f32, differentiated.
        old_logprobs: [N, T] f32; not read.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, value 0, gradient of `logprobs` inside the mask.
    """
    _check(logprobs, old_logprobs, mask)
    logprobs = jnp.where(mask, logprobs, 0.0)
    return logprobs - jax.lax.stop_gradient(logprobs)


def token(logprobs: Array, old_logprobs: Array, mask: Array) -> Array:
    """The policy that the step started from, token by token (PPO, GRPO).

    Args:
        logprobs: [N, T] f32, differentiated.
        old_logprobs: [N, T] f32, from the trainer's own forward pass with the parameters that the
            rollout was sampled from, at the sampling temperature; constant.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, clamped to +-`LOG_RATIO_CLAMP` (no gradient beyond), 0 outside the mask.
    """
    _check(logprobs, old_logprobs, mask)
    # Masked slots become 0 before exp: 0 * inf would be NaN in the backward pass.
    log_ratio = jnp.where(mask, logprobs - jax.lax.stop_gradient(old_logprobs), 0.0)
    return jnp.clip(log_ratio, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP)


def sequence(logprobs: Array, old_logprobs: Array, mask: Array) -> Array:
    """Geometric mean of the row's token ratios (GSPO, arXiv:2507.18071).

        log s[n, t] = sg(1 / L[n] * sum_t' (logprobs - old_logprobs)) + logprobs - sg(logprobs)

    All tokens of a row have the same value and are clipped together; the clip range is about 3e-4.

    Args:
        logprobs: [N, T] f32, differentiated.
        old_logprobs: [N, T] f32, constant.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, at most `SEQUENCE_LOG_RATIO_CAP` (no gradient beyond), 0 outside the mask.
    """
    _check(logprobs, old_logprobs, mask)
    total = jnp.where(mask, logprobs - old_logprobs, 0.0).sum(axis=-1, keepdims=True)
    return _of_sequence(total / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1), logprobs, mask)


def sequence_sum(logprobs: Array, old_logprobs: Array, mask: Array) -> Array:
    """Product of the row's token ratios: the ratio of the samples themselves (GDPO, 2510.08554).

        log s[n, t] = sg(sum_t' (logprobs - old_logprobs)) + logprobs - sg(logprobs)

    It is `sequence` to the power of the length: where the policy has not moved both are the same,
    and it leaves a clip range that much sooner.

    Args:
        logprobs: [N, T] f32, differentiated.
        old_logprobs: [N, T] f32, constant.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, at most `SEQUENCE_LOG_RATIO_CAP` (no gradient beyond), 0 outside the mask.
    """
    _check(logprobs, old_logprobs, mask)
    total = jnp.where(mask, logprobs - old_logprobs, 0.0).sum(axis=-1, keepdims=True)
    return _of_sequence(total, logprobs, mask)


def _of_sequence(log_ratio: Array, logprobs: Array, mask: Array) -> Array:
    """A ratio of each row [N, 1] on its tokens, with the gradient of their log-probabilities."""
    own = jnp.where(mask, logprobs, 0.0)
    value = jnp.where(mask, jax.lax.stop_gradient(log_ratio), 0.0)
    return jnp.minimum(value + own - jax.lax.stop_gradient(own), SEQUENCE_LOG_RATIO_CAP)


RATIOS = {
    "none": none,
    "token": token,
    "sequence": sequence,
    "sequence_sum": sequence_sum,
    "segment": segment,
}
