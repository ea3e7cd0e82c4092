"""The denominator of the importance ratio: which policy the samples are compared with.

Each part returns the log of policy / denominator, [N, T], with the gradient of `logprobs`. A ratio
per sequence has the same shape (the value repeated over the row's tokens) and is one more entry in
`RATIOS`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

# verl and tunix clamp the log-ratio to this before exp. Beyond it the ratio is no longer a
# meaningful weight (e^20 = 5e8), and its gradient is dropped.
LOG_RATIO_CLAMP = 20.0


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


RATIOS = {"none": none, "token": token}
