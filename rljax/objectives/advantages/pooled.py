"""A sample against all that was drawn of its prompt (Reinforce-Ada, arXiv:2510.04996)."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, scores_of
from rljax.objectives.parts import check_field


def pool_statistics(scores: Array, drawn: Array) -> tuple[Array, Array]:
    """Mean and unbiased deviation of all scores of a prompt; 0 and 1 of fewer than two.

    Args:
        scores: [B, D] f32.
        drawn: [B, D] bool, False where there is no sample.

    Returns:
        [B] f32 each.
    """
    count = drawn.sum(axis=1)
    mean = jnp.where(drawn, scores, 0.0).sum(axis=1) / jnp.maximum(count, 1)
    squares = jnp.where(drawn, (scores - mean[:, None]) ** 2, 0.0).sum(axis=1)
    deviation = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
    several = count > 1
    return jnp.where(several, mean, 0.0), jnp.where(several, deviation, 1.0)


def pool_mean(
    token_rewards: Array,
    mask: Array,
    pool_means: Array,
    pool_deviations: Array,
    *,
    divide_by_pool_deviation: bool = False,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """A = score - mean score of the prompt's whole pool.

    The kept group is balanced by construction, so that its own mean would say nothing of how hard
    the prompt is.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        pool_means: [N] f32, `pool_statistics` of the row's prompt.
        pool_deviations: [N] f32, likewise.
        divide_by_pool_deviation: also divide by the pool's deviation; the paper does not, since it
            is tiny in large pools.
        advantage_epsilon: smallest deviation, and added to it.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    scores, _ = scores_of(token_rewards, mask)
    advantages = scores - pool_means
    if divide_by_pool_deviation:
        deviations = jnp.maximum(pool_deviations, advantage_epsilon)
        advantages = advantages / (deviations + advantage_epsilon)
    return broadcast(advantages, mask)
