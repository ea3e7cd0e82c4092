"""Baselines of whole samples: none, the batch's, the group's."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_deviation,
    group_statistics,
    scores_of,
)
from rljax.objectives.means import mean_of, ratio
from rljax.objectives.parts import check_field


def none(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """No baseline: A = score (REINFORCE).

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, prompt of each row; not read.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    scores, _ = scores_of(token_rewards, mask, group_ids)
    return broadcast(scores, mask)


def batch_mean(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - mean score of the batch's non-empty rows.

    The row itself is part of its baseline, which shrinks the expected gradient by (N - 1) / N.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32; not read.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores agree.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    return broadcast(scores - mean_of(scores, present), mask)


def ema(token_rewards: Array, mask: Array, group_ids: Array, baseline: Array) -> Array:
    """A = score - running mean of earlier batches.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32; not read.
        baseline: [] f32, part of the train state. It must not have seen this batch yet: call
            `update_ema_baseline` afterwards.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    scores, _ = scores_of(token_rewards, mask, group_ids)
    return broadcast(scores - baseline, mask)


def update_ema_baseline(
    baseline: Array, token_rewards: Array, mask: Array, *, ema_decay: float = 0.9
) -> Array:
    """The baseline for the next batch: decay * baseline + (1 - decay) * mean score.

    Args:
        baseline: [] f32.
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        ema_decay: weight of the past, in [0, 1].

    Returns:
        [] f32; unchanged when every row is empty.

    Raises:
        ValueError: if `ema_decay` lies outside [0, 1].
    """
    check_field("ema_decay", ema_decay, lambda x: 0.0 <= x <= 1.0, "in [0, 1]")
    scores, present = scores_of(token_rewards, mask)
    updated = ema_decay * baseline + (1.0 - ema_decay) * mean_of(scores, present)
    return jnp.where(present.any(), updated, baseline)


def group_leave_one_out(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - mean score of the other rows of the group (RLOO, arXiv:2402.14740).

    Equal to n / (n - 1) * (score - group mean). A group of one has no other rows: A = 0. (One of
    verl's two versions keeps its score.)

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt; any integers in any order.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group agree.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    scale = group.size / jnp.maximum(group.size - 1.0, 1.0)
    return broadcast(scale * (scores - group.mean), mask)


def group_mean(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - group mean (Dr. GRPO, arXiv:2503.20783).

    A group of one has no mean to compare with and keeps its score, as in the reference code.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt; any integers in any order.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    return broadcast(jnp.where(group.size == 1, scores, scores - group.mean), mask)


def group_zscore(
    token_rewards: Array, mask: Array, group_ids: Array, *, advantage_epsilon: float = 1e-6
) -> Array:
    """A = (score - group mean) / (group deviation + epsilon) (GRPO, arXiv:2402.03300).

    The deviation is the unbiased one (divisor n - 1), as in verl and tunix. A group of one takes
    mean 0 and deviation 1, so it keeps its score up to epsilon.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt; any integers in any order.
        advantage_epsilon: added to the deviation; 1e-6 in verl and tunix, 1e-4 in TRL. It matters
            for rewards that hardly differ.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    alone = group.size == 1
    numerator = jnp.where(alone, scores, scores - group.mean)
    deviation = jnp.where(alone, 1.0, group_deviation(scores, present, group))
    return broadcast(ratio(numerator, deviation + advantage_epsilon), mask)
