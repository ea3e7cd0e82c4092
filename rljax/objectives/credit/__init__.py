"""Values of tokens, segments and macro actions."""

import jax.numpy as jnp
from jax import Array


def none(mask: Array) -> Array:
    """One segment. [N, T] bool -> [N, T] i32 zeros."""
    return jnp.zeros(mask.shape, jnp.int32)


SEGMENTATIONS = {"none": none}
