"""An advantage for the best sample of a group, and for no other."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_deviation,
    group_max,
    group_statistics,
    group_sum,
    scores_of,
)
from rljax.objectives.parts import check_field


def pass_at_k(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    divide_by_deviation: bool = True,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """Best score - second best for the best row of a group, 0 for all others (arXiv:2503.19595).

    The group's maximum is its reward (pass@k with k = the samples of a prompt), and the advantage
    is how much of it would be lost without the row. Where two best rows tie, nothing would be lost:
    all get 0.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        divide_by_deviation: divide by the group's unbiased deviation + epsilon.
        advantage_epsilon: added to the deviation; 1e-6 in verl.

    Returns:
        [N, T] f32, constant, zero outside the mask. A group of one has no second best: 0.

    Raises:
        ValueError: if `advantage_epsilon` is negative.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    best = group_max(jnp.where(present, scores, -jnp.inf), group.segment)
    is_best = present & (scores == best)
    second = group_max(jnp.where(present & ~is_best, scores, -jnp.inf), group.segment)
    unique = (group_sum(is_best.astype(scores.dtype), group.segment) == 1) & (group.size > 1)
    lead = jnp.where(is_best & unique, best - second, 0.0)
    if divide_by_deviation:
        deviation = group_deviation(scores, present, group) + advantage_epsilon
        lead = jnp.where(lead > 0, lead / deviation, 0.0)
    return broadcast(lead, mask)
