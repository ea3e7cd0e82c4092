"""Groups that hold demonstrations besides samples."""

import chex
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.baselines import group_zscore
from rljax.objectives.advantages.groups import (
    Groups,
    broadcast,
    group_statistics,
    group_sum,
    scores_of,
)
from rljax.objectives.parts import check_field


def group_mean_sampled(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    demonstration: Array,
    *,
    divide_by_deviation: bool = False,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """Score - mean score of the group's samples, without demonstrations (HPT, arXiv:2509.04419).

    The statistics come from the rows that the policy sampled; demonstrations are compared with
    them. Without demonstrations this is `group_mean`, or `group_zscore`.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples and demonstrations of one prompt.
        demonstration: [N] bool.
        divide_by_deviation: divide by the unbiased deviation of the samples + epsilon; a
            deviation of 0 counts as 1.
        advantage_epsilon: added to the deviation.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 for the samples of a group of two
        or more that all agree. With fewer than two samples there is nothing to compare with:
        mean 0, deviation 1.

    Raises:
        ValueError: if `advantage_epsilon` is negative.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    chex.assert_equal_shape([scores, demonstration])
    sampled = present & ~demonstration
    group: Groups = group_statistics(scores, sampled, group_ids)
    enough = group.size > 1
    advantages = scores - jnp.where(enough, group.mean, 0.0)
    if divide_by_deviation:
        squares = group_sum(jnp.where(sampled, advantages**2, 0.0), group.segment)
        deviation = jnp.sqrt(squares / jnp.maximum(group.size - 1.0, 1.0))
        deviation = jnp.where(enough & (deviation > 0), deviation, 1.0)
        advantages = advantages / (deviation + advantage_epsilon)
    return broadcast(advantages, mask)


def signed_beside_demonstrations(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    correct: Array,
    demonstration: Array,
    *,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """Right samples against wrong ones, without a baseline; demonstrations have one (SRFT).

        A = 1 of a right sample, -1 of a wrong one
        A = z-score of a demonstration, among the samples and demonstrations of its prompt

    The weights of right samples by their entropy are those of `token_weight=srft`.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples and demonstrations of one prompt.
        correct: [N] bool.
        demonstration: [N] bool.
        advantage_epsilon: added to the deviation of the group.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: if `advantage_epsilon` is negative.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    compared = group_zscore(token_rewards, mask, group_ids, advantage_epsilon=advantage_epsilon)
    outcome = broadcast(jnp.where(correct, 1.0, -1.0), mask)
    return jnp.where(demonstration[:, None], compared, outcome)
