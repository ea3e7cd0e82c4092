"""A sample's weight among the good ones of its group, minus that among the bad ones."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_max,
    group_statistics,
    group_sum,
    scores_of,
)
from rljax.objectives.parts import check_field


def group_softmax(
    token_rewards: Array, mask: Array, group_ids: Array, *, softmax_scale: float = 1.0
) -> Array:
    """A = n * (softmax(psi (score - mean)) - softmax(-psi (score - mean))) (wd1, arXiv:2507.08838).

    The two softmaxes are over the n samples of the group. With a mean over samples the loss of a
    group is the sum of weight * log-likelihood, as in the authors' code; the paper's formula
    divides it by n.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        softmax_scale: psi, factor of the scores in both softmaxes.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group agree.

    Raises:
        ValueError: for a scale that is not positive.
    """
    check_field("softmax_scale", softmax_scale, lambda x: x > 0, "> 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    centred = softmax_scale * (scores - group.mean)
    good, bad = (softmax_in_groups(x, present, group.segment) for x in (centred, -centred))
    weights = group.size * (good - bad)
    return broadcast(jnp.where(group.homogeneous, 0.0, weights), mask)


def softmax_in_groups(values: Array, present: Array, segment: Array) -> Array:
    """The softmax over the present rows of each group, [N] f32, 0 for other rows.

    Args:
        values: [N] f32.
        present: [N] bool.
        segment: [N] i32, equal for rows of one group.
    """
    largest = group_max(jnp.where(present, values, -jnp.inf), segment)
    power = jnp.where(present, jnp.exp(jnp.where(present, values - largest, 0.0)), 0.0)
    total = group_sum(power, segment)
    return power / jnp.where(total > 0, total, 1.0)
