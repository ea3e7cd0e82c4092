"""SRFT (arXiv:2506.19767): right samples weighed by the policy's entropy."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import mean_of
from rljax.objectives.parts import check_field


def srft(
    current_entropy: Array, advantages: Array, mask: Array, *, srft_right: float = 0.1
) -> Array:
    """Right samples weigh more where the policy is unsure of them.

        weight = srft_right * exp(H) where A > 0, else 1;   H: mean token entropy of the row

    Demonstrations have a weight of their own (`demonstration_nll`).

    Args:
        current_entropy: [N, T] f32, nats, before the update.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        srft_right: weight of right samples at zero entropy.

    Returns:
        [N, T] f32, constant; 1 outside the mask.

    Raises:
        ValueError: if the weight is negative.
    """
    check_field("srft_right", srft_right, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([current_entropy, advantages, mask])
    unsure = mean_of(jax.lax.stop_gradient(current_entropy), mask, axis=-1)[:, None]
    return jnp.where(mask & (advantages > 0), srft_right * jnp.exp(unsure), 1.0)
