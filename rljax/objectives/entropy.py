"""Entropy of categorical distributions."""

import jax
import jax.numpy as jnp
from jax import Array


def entropy(logits: Array) -> Array:
    """Entropy in nats of softmax(logits).

    Args:
        logits: [..., V] f32; -inf entries are impossible outcomes and contribute 0.

    Returns:
        [...] f32, between 0 and log V, differentiable also at -inf logits.
    """
    possible = jnp.isfinite(logits)
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    # The inner `where` keeps -inf out of the product: 0 * -inf is NaN forwards and backwards.
    logprobs = jnp.where(possible, logprobs, 0.0)
    return -jnp.where(possible, jnp.exp(logprobs) * logprobs, 0.0).sum(axis=-1)
