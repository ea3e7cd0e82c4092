"""From per-token arrays to per-sequence numbers."""

import chex
import jax.numpy as jnp
from jax import Array


def sequence_logprobs(logprobs: Array, mask: Array) -> Array:
    """Log-probability of each whole sequence: the sum over its tokens, never an average.

    Args:
        logprobs: [..., T] f32, log-probability of the taken token.
        mask: [..., T] bool, True where a token belongs to the sequence.

    Returns:
        [...] f32; 0 for a row without tokens. Masked slots may hold anything, NaN included.
    """
    chex.assert_equal_shape([logprobs, mask])
    return jnp.where(mask, logprobs, 0.0).sum(axis=-1)
