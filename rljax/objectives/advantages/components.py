"""Several rewards, each on a scale of its own: advantages are mixed, and not rewards."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.baselines import group_zscore
from rljax.objectives.parts import check_field


def component_zscore(
    components: Array,
    component_weights: Array,
    mask: Array,
    group_ids: Array,
    *,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """A = sum over rewards of weight * (value - group mean) / (group deviation + epsilon).

    A reward that spreads a hundred times as wide as another does not drown it, as it would where
    values are added first and the sum is normalised. The weights are those of
    config.scoring.rewards. A reward that does not apply, or whose gate is closed, has the value 0.

    Args:
        components: [N, C] f32, the value of each reward, before weights.
        component_weights: [C] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        advantage_epsilon: added to each deviation.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all samples of a group of two
        or more have the same values.

    Raises:
        ValueError: if `advantage_epsilon` is negative.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")

    def one(values: Array) -> Array:
        # All tokens of a row have its advantage, so that one slot is enough.
        present = mask.any(axis=-1, keepdims=True)
        found = group_zscore(
            values[:, None], present, group_ids, advantage_epsilon=advantage_epsilon
        )
        return found[:, 0]

    advantages = jax.vmap(one, in_axes=1, out_axes=1)(components) @ component_weights
    return jnp.where(mask, jax.lax.stop_gradient(advantages)[:, None], 0.0)
