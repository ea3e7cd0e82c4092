"""The group's mean with the batch's deviation."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_statistics,
    scores_of,
)
from rljax.objectives.means import mean_of, ratio
from rljax.objectives.parts import check_field


def group_mean_batch_deviation(
    token_rewards: Array, mask: Array, group_ids: Array, *, advantage_epsilon: float = 1e-6
) -> Array:
    """A = (score - group mean) / (deviation of all scores + epsilon) (Lite PPO, arXiv:2508.08221).

    The deviation is the unbiased one of the batch's raw scores, one for each non-empty row, not
    that of the centred scores: a group whose scores hardly differ is not blown up. TRL calls this
    `scale_rewards="batch"`.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        advantage_epsilon: added to the deviation; 1e-6 in verl and tunix, 1e-4 in TRL.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group agree,
        as in a group of one.

    Raises:
        ValueError: if `advantage_epsilon` is negative.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    rows = present.astype(scores.dtype).sum()
    squares = jnp.where(present, (scores - mean_of(scores, present)) ** 2, 0.0).sum()
    deviation = jnp.sqrt(squares / jnp.maximum(rows - 1.0, 1.0))
    centred = scores - group_statistics(scores, present, group_ids).mean
    return broadcast(ratio(centred, deviation + advantage_epsilon), mask)
