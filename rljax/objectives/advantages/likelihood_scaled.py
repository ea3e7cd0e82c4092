"""The group's mean over itself: rare successes count as in maximum likelihood (MaxRL)."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, group_statistics, scores_of
from rljax.objectives.parts import check_field


def group_mean_ratio(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    punish_failed_groups: bool = False,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """A = (score - m) / (m + epsilon), m the group's mean score; 0 where m <= 0.

    With scores of 0 and 1 and success probability p, the expected step of G samples is the gradient
    of the log-likelihood's series to order G - 1 (MaxRL, arXiv:2602.02710):

        J_T = -sum over k = 1 .. T of (1 - p)^k / k

    so that T = 1 is expected reward and T -> infinity is log p.

    Args:
        token_rewards: [N, T] f32, of scores >= 0.
        mask: [N, T] bool.
        group_ids: [N] i32.
        punish_failed_groups: A = -1 in a group without a success: order G instead of G - 1.
        advantage_epsilon: added to the mean.

    Returns:
        [N, T] f32, constant, zero outside the mask. A group of one has no advantage.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    some = group.mean > 0
    scaled = (scores - group.mean) / jnp.where(some, group.mean + advantage_epsilon, 1.0)
    without = -1.0 if punish_failed_groups else 0.0
    advantages = jnp.where(some, scaled, without)
    return broadcast(jnp.where(group.size > 1, advantages, 0.0), mask)
