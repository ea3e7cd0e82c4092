"""The most extreme tokens of a batch: exact counts with static shapes."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def lowest(keys: Array, candidates: Array, count: Array | int) -> Array:
    """The `count` candidates with the lowest keys.

    Of equal keys the one that comes first in memory is taken, so that exactly
    min(count, number of candidates) tokens are taken.

    Args:
        keys: [N, T] f32; tokens that are no candidates may hold anything.
        candidates: [N, T] bool.
        count: [] how many, may be traced.

    Returns:
        [N, T] bool.
    """
    chex.assert_equal_shape([keys, candidates])
    keys = jnp.where(candidates, jax.lax.stop_gradient(keys), 0.0).reshape(-1)
    outside = ~candidates.reshape(-1)
    order = jnp.lexsort((keys, outside))  # candidates first, then by key; stable
    place = jnp.zeros(keys.size, int).at[order].set(jnp.arange(keys.size))
    return (place < count).reshape(candidates.shape) & candidates


def highest(keys: Array, candidates: Array, count: Array | int) -> Array:
    """The `count` candidates with the highest keys; arguments as in `lowest`."""
    return lowest(-keys, candidates, count)


def share_of(tokens: Array, share: Array | float) -> Array:
    """int(number of True slots * share), [] i32."""
    return jnp.floor(tokens.sum() * share).astype(int)


def nearest_quantile(values: Array, mask: Array, quantile: Array | float) -> Array:
    """The value at the rank nearest to `quantile` among the True slots, half to even.

    Args:
        values: [N, T] f32.
        mask: [N, T] bool.
        quantile: [] in [0, 1], may be traced.

    Returns:
        [] f32; 0 for an all-False mask.
    """
    ordered = jnp.sort(jnp.where(mask, values, jnp.inf).reshape(-1))
    place = jnp.round(quantile * jnp.maximum(mask.sum() - 1, 0)).astype(int)
    return jnp.where(mask.any(), ordered[place], 0.0)
