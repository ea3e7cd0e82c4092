"""Advantages of the segments of searched trajectories (DeepSearch, arXiv:2509.25454)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics, group_sum
from rljax.objectives.parts import check_field

# How the bonus for deep nodes of a searched tree grows with their depth.
DEPTH_BONUSES = ("constant", "log", "sqrt")


def search_mean(
    end_values: Array,
    mask: Array,
    group_ids: Array,
    *,
    search_deviation: bool = False,
    search_epsilon: float = 1e-6,
) -> Array:
    """A_t = (reward of the token's node - m) / s (arXiv:2509.25454, section 3.4, and its code).

    m and s are the mean and the biased standard deviation, over the trajectories of the prompt, of
    the reward of the last token. A prompt with a single trajectory has m = 0 and s = 1.

    Args:
        end_values: [N, T] f32, reward of the node that the token belongs to.
        mask: [N, T] bool; a row without a True is in no group.
        group_ids: [N] i32, equal for the trajectories of one prompt.
        search_deviation: whether to divide by s + `search_epsilon`; the paper's best run does not.
        search_epsilon: added to the deviation.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a negative epsilon.
    """
    check_field("search_epsilon", search_epsilon, lambda x: x >= 0, ">= 0")
    chex.assert_rank(mask, 2)
    chex.assert_equal_shape([end_values, mask])
    values, present = jax.lax.stop_gradient(end_values), mask.any(axis=1)
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    outcome = jnp.where(present, jnp.take_along_axis(values, last[:, None], axis=1)[:, 0], 0.0)
    group = group_statistics(outcome, present, group_ids)
    alone = group.size <= 1
    advantages = values - jnp.where(alone, 0.0, group.mean)[:, None]
    if search_deviation:
        centred = jnp.where(present, outcome - group.mean, 0.0)
        variance = group_sum(centred**2, group.segment) / jnp.maximum(group.size, 1.0)
        deviation = jnp.where(alone, 1.0, jnp.sqrt(variance))
        advantages = advantages / (deviation + search_epsilon)[:, None]
    return jnp.where(mask, advantages, 0.0)
