"""What every surrogate does with its inputs first."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def cleaned(
    log_ratio: Array, logprobs: Array, advantages: Array, mask: Array
) -> tuple[Array, Array, Array]:
    """The first three arrays with 0 outside the mask, advantages without gradient; checks shapes.

    Masked slots may hold NaN or infinity. They are replaced before anything is computed from them:
    0 * inf would be NaN in the backward pass.
    """
    chex.assert_rank(logprobs, 2)
    chex.assert_equal_shape([log_ratio, logprobs, advantages, mask])
    advantages = jnp.where(mask, jax.lax.stop_gradient(advantages), 0.0)
    return jnp.where(mask, log_ratio, 0.0), jnp.where(mask, logprobs, 0.0), advantages
