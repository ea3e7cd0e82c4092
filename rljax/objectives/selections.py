"""Which sampled tokens and groups are trained on."""

import jax.numpy as jnp
from jax import Array


def none(mask: Array) -> Array:
    """All of them. [N, T] bool."""
    return mask


def every_group(group_ids: Array) -> Array:
    """All of them. [N] i32 -> [N] bool."""
    return jnp.ones(group_ids.shape, bool)


SELECTIONS = {"none": none}
GROUP_FILTERS = {"none": every_group}
