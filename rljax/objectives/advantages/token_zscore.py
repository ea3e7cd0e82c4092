"""A group z-score over tokens instead of rows."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.baselines import group_zscore
from rljax.objectives.advantages.groups import (
    broadcast,
    group_max,
    group_statistics,
    group_sum,
    scores_of,
    weighted_group_mean,
)
from rljax.objectives.means import ratio
from rljax.objectives.parts import check_field


def group_token_zscore(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    advantage_epsilon: float = 1e-6,
    fallback_size: float = 5.0,
) -> Array:
    """Z-score with mean and biased deviation over a group's tokens (HAPO, arXiv:2509.16591, B).

    Every token has its row's score, so that long rows weigh more. If one advantage of a group
    reaches `fallback_size`, the whole group takes `group_zscore` instead: a short row among long
    ones would be divided by a tiny deviation.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        advantage_epsilon: added to the deviation.
        fallback_size: least |A| of a token at which the group falls back, > 0.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group agree,
        as in a group of one.

    Raises:
        ValueError: if `advantage_epsilon` is negative or `fallback_size` not positive.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    check_field("fallback_size", fallback_size, lambda x: x > 0, "> 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    lengths = mask.sum(axis=-1).astype(scores.dtype)
    tokens = jnp.maximum(group_sum(lengths, group.segment), 1.0)
    centred = scores - weighted_group_mean(scores, lengths, group.segment)
    deviation = jnp.sqrt(group_sum(lengths * centred**2, group.segment) / tokens)
    zscore = ratio(centred, deviation + advantage_epsilon)
    largest = group_max(jnp.where(present, jnp.abs(zscore), 0.0), group.segment)
    by_rows = group_zscore(token_rewards, mask, group_ids, advantage_epsilon=advantage_epsilon)
    falls_back = (largest >= fallback_size) & ~group.homogeneous
    return jnp.where(falls_back[:, None], by_rows, broadcast(zscore, mask))
