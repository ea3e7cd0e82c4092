"""The policy before the update, estimated without a forward pass (AReaL)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field

INTERPOLATIONS = ("log_linear", "linear", "behavior")


def proximal_logprobs(
    behavior_logprobs: Array,
    current_logprobs: Array,
    versions: Array,
    version: Array,
    mask: Array,
    *,
    interpolation: str = "log_linear",
) -> Array:
    """Log-probabilities before this batch, estimated between the sampler's and the current ones.

        log prox = log mu + alpha (log theta - log mu),    alpha = (v - 1 - v_mu) / (v - v_mu)

    where v is the version that is being made and v_mu the version that sampled the token
    (arXiv:2505.24298, code). Three kinds of tokens keep mu: those of the version right before,
    v_mu = v - 1; those that are not older than v; and those that nobody sampled (v_mu < 0).

    Args:
        behavior_logprobs: [N, T] f32, mu, as the sampler reported them.
        current_logprobs: [N, T] f32, theta, by the trainer.
        versions: [N, T] i32, optimizer steps of the parameters that sampled each token; negative
            for tokens that were not sampled.
        version: [] i32, v.
        mask: [N, T] bool.
        interpolation: "log_linear" is the equation above; "linear" mixes probabilities instead of
            their logs; "behavior" keeps mu.

    Returns:
        [N, T] f32, constant, 0 outside the mask; behavior_logprobs that are not finite stay so.

    Raises:
        ValueError: for an unknown interpolation.
    """
    allowed = f"one of {', '.join(INTERPOLATIONS)}"
    check_field("interpolation", interpolation, lambda x: x in INTERPOLATIONS, allowed)
    chex.assert_equal_shape([behavior_logprobs, current_logprobs, versions, mask])
    behavior = jnp.where(mask, jax.lax.stop_gradient(behavior_logprobs), 0.0)
    current = jnp.where(mask, jax.lax.stop_gradient(current_logprobs), 0.0)
    if interpolation == "behavior":
        return behavior
    between = mask & (versions >= 0) & (versions < version)
    steps = jnp.where(between, version - versions, 1).astype(behavior.dtype)
    alpha = (steps - 1.0) / steps
    if interpolation == "log_linear":
        estimate = behavior + alpha * (current - behavior)
    else:
        estimate = jnp.logaddexp(jnp.log1p(-alpha) + behavior, jnp.log(alpha) + current)
    return jnp.where(between, estimate, behavior)
