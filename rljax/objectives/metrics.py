"""Metrics as (sum, count), so that they can be added up over micro-batches and devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class SumCount(NamedTuple):
    """A sum and its divisor, kept apart until everything has been added up.

    It is a tuple, so `a + b` would concatenate: add field by field, as `jax.tree.map` does.
    """

    total: Array  # [] f32
    count: Array  # [] f32

    def mean(self) -> Array:
        """[] f32, total / count; 0 when nothing was counted."""
        empty = self.count == 0
        return jnp.where(empty, 0.0, self.total / jnp.where(empty, 1.0, self.count))


def masked(values: Array, mask: Array) -> SumCount:
    """Sum of `values` where `mask` is True, and how many those are.

    Args:
        values: [...] any numeric or bool type; gradients are blocked.
        mask: [...] bool, the same shape.

    Returns:
        `SumCount` of two scalars. An all-False mask gives (0, 0).
    """
    # `float` is float32 unless 64-bit types are switched on.
    values = jax.lax.stop_gradient(jnp.asarray(values).astype(float))
    return SumCount(jnp.where(mask, values, 0.0).sum(), mask.sum().astype(float))
