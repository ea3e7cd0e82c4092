"""Mean 0 and variance 1 over all tokens that count."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import mean_of, ratio


def whiten(
    values: Array,
    mask: Array,
    *,
    shift_mean: bool = True,
    unbiased: bool = True,
    epsilon: float = 1e-8,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon), both over the True slots of the whole array.

    Args:
        values: [...] f32; masked slots may hold anything, NaN included.
        mask: [...] bool.
        shift_mean: False keeps the mean: only the scale changes.
        unbiased: divisor n - 1, with n the number of True slots; else n.
        epsilon: added to the variance.

    Returns:
        [...] f32, constant, zero outside the mask; exactly 0 where all values agree (with
        `shift_mean`). With fewer than two True slots there is no variance: the values come back as
        they are.
    """
    chex.assert_equal_shape([values, mask])
    values = jnp.where(mask, jax.lax.stop_gradient(values), 0.0)
    count = mask.sum().astype(values.dtype)
    mean = mean_of(values, mask)
    squares = jnp.where(mask, (values - mean) ** 2, 0.0).sum()
    variance = squares / jnp.maximum(count - unbiased, 1.0)
    whitened = ratio(values - mean, jnp.sqrt(variance + epsilon))
    if not shift_mean:
        whitened = whitened + mean
    return jnp.where(mask, jnp.where(count > 1, whitened, values), 0.0)
