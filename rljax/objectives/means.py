"""Means of float32 numbers of which equal numbers have exactly the mean that they are.

The float32 mean of equal numbers may differ from them in its last bits. Then they have a deviation,
a tiny one, and a division by it makes advantages of nothing.
"""

import jax.numpy as jnp
from jax import Array


def between(mean: Array, lowest: Array, highest: Array) -> Array:
    """A mean that rounding has not carried beyond what it is the mean of.

    Args:
        mean: [...] f32.
        lowest: [...] f32, of its numbers.
        highest: [...] f32; less than `lowest` where there are no numbers: the mean stays as it is.

    Returns:
        [...] f32.
    """
    return jnp.where(lowest <= highest, jnp.clip(mean, lowest, highest), mean)


def mean_of(values: Array, present: Array, *, axis: int | None = None) -> Array:
    """The mean of the values where `present` [...] bool; 0 of none."""
    mean = jnp.where(present, values, 0.0).sum(axis) / jnp.maximum(present.sum(axis), 1)
    lowest = jnp.where(present, values, jnp.inf).min(axis)
    return between(mean, lowest, jnp.where(present, values, -jnp.inf).max(axis))


def ratio(numerator: Array, denominator: Array) -> Array:
    """Their quotient, 0 where the numerator is 0: no deviation and an epsilon of 0 divide by 0."""
    return jnp.where(numerator == 0, 0.0, numerator / jnp.where(numerator == 0, 1.0, denominator))
