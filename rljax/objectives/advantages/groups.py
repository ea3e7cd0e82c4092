"""Scores of samples and statistics of the groups that they belong to."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import between
from rljax.objectives.metrics import SumCount


class Groups(NamedTuple):
    """Statistics of each row's own group, gathered back to the rows: all [N]."""

    size: Array  # non-empty rows of the group
    mean: Array  # mean score of those; exactly their score where it is one
    homogeneous: Array  # bool, all their scores are equal
    segment: Array  # i32 in [0, N), equal for rows of one group


def scores_of(token_rewards: Array, mask: Array, group_ids: Array | None = None) -> tuple:
    """The scores [N] without gradient, and which rows are not empty [N]."""
    chex.assert_rank(token_rewards, 2)
    chex.assert_equal_shape([token_rewards, mask])
    if group_ids is not None:
        chex.assert_shape(group_ids, (token_rewards.shape[0],))
    scores = jnp.where(mask, token_rewards, 0.0).sum(axis=-1)
    return jax.lax.stop_gradient(scores), mask.any(axis=-1)


def group_statistics(scores: Array, present: Array, group_ids: Array) -> Groups:
    """Size, mean and agreement of each row's group, over the rows that are `present` ([N] each)."""
    n = scores.shape[0]
    # Arbitrary ids become 0 .. N-1; `size=n` keeps the shape static under jit.
    _, segment = jnp.unique(group_ids, return_inverse=True, size=n)
    segment = segment.reshape(n)

    def total(values):
        return jax.ops.segment_sum(jnp.where(present, values, 0.0), segment, n)

    size = total(jnp.ones_like(scores))
    highest = jax.ops.segment_max(jnp.where(present, scores, -jnp.inf), segment, n)
    lowest = jax.ops.segment_min(jnp.where(present, scores, jnp.inf), segment, n)
    mean = between(total(scores) / jnp.maximum(size, 1.0), lowest, highest)
    return Groups(size[segment], mean[segment], (highest <= lowest)[segment], segment)


def weighted_group_mean(values: Array, weights: Array, segment: Array) -> Array:
    """Weighted mean of each group, gathered back: [N, ...] -> [N, ...]; 0 where nothing weighs.

    Args:
        values: [N, ...] f32; read where the weight is positive.
        weights: [N, ...] f32, >= 0.
        segment: [N] i32, equal for rows of one group.
    """
    counted = weights > 0
    total = group_sum(weights, segment)
    summed = group_sum(jnp.where(counted, weights * values, 0.0), segment)
    mean = jnp.where(total > 0, summed / jnp.where(total > 0, total, 1.0), 0.0)
    lowest = -group_max(jnp.where(counted, -values, -jnp.inf), segment)
    return between(mean, lowest, group_max(jnp.where(counted, values, -jnp.inf), segment))


def group_sum(values: Array, segment: Array) -> Array:
    """Sums over the rows of each group, gathered back to the rows: [N, ...] -> [N, ...]."""
    return jax.ops.segment_sum(values, segment, segment.shape[0])[segment]


def group_max(values: Array, segment: Array) -> Array:
    """Maxima over the rows of each group, gathered back to the rows: [N, ...] -> [N, ...]."""
    return jax.ops.segment_max(values, segment, segment.shape[0])[segment]


def group_deviation(scores: Array, present: Array, group: Groups) -> Array:
    """Unbiased deviation (divisor n - 1) of each row's group [N]; 0 for a group of one."""
    centred = jnp.where(present, scores - group.mean, 0.0)
    squares = group_sum(centred**2, group.segment)
    return jnp.sqrt(squares / jnp.maximum(group.size - 1.0, 1.0))


def broadcast(row_values: Array, mask: Array) -> Array:
    """Gives every token of a row the row's value: [N] -> [N, T], constant, 0 outside the mask."""
    return jnp.where(mask, jax.lax.stop_gradient(row_values)[:, None], 0.0)


def share_without_signal(token_rewards: Array, mask: Array, group_ids: Array) -> SumCount:
    """Share of groups whose scores are all equal: nothing to learn for a group baseline.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32.

    Returns:
        `SumCount` over groups with at least one non-empty row. A group of one counts as equal.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    share_of_row = jnp.where(present, 1.0 / jnp.maximum(group.size, 1.0), 0.0)
    return SumCount(jnp.where(group.homogeneous, share_of_row, 0.0).sum(), share_of_row.sum())
