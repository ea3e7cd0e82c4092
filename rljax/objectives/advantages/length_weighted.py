"""The optimal baseline of a group under the assumption that squared gradients grow with length."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_statistics,
    scores_of,
    weighted_group_mean,
)


def group_length_weighted(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - sum_j L_j score_j / sum_j L_j over the group (OPO, arXiv:2505.23585).

    L counts the True slots of a row: the variance of a sequence's gradient is taken to be
    proportional to its length, and the baseline with the least variance weighs by it. Meant for
    one update per batch.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree. A group of one keeps its score.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    lengths = mask.sum(axis=-1).astype(scores.dtype)
    centred = scores - weighted_group_mean(scores, lengths, group.segment)
    return broadcast(jnp.where(group.size == 1, scores, centred), mask)
