"""A sample against all that was drawn of its prompt (Reinforce-Ada, arXiv:2510.04996)."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, scores_of


def pool_mean(
    token_rewards: Array,
    mask: Array,
    pool_right: Array,
    pool_wrong: Array,
    *,
    divide_by_pool_deviation: bool = False,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """A = score - share of right samples in the prompt's whole pool.

    The kept group is balanced by construction, so that its own mean would say nothing of how hard
    the prompt is. The pool counts right samples as 1 and all others as 0.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        pool_right: [N] f32, right samples of the row's pool.
        pool_wrong: [N] f32, all others of it.
        divide_by_pool_deviation: also divide by the pool's unbiased deviation; the paper does not,
            since it is tiny in large pools.
        advantage_epsilon: smallest deviation, and added to it.

    Returns:
        [N, T] f32, constant, zero outside the mask. A pool of one sample has mean 0, deviation 1.
    """
    scores, _ = scores_of(token_rewards, mask)
    total = pool_right + pool_wrong
    several = total > 1
    mean = jnp.where(several, pool_right / jnp.maximum(total, 1.0), 0.0)
    advantages = scores - mean
    if divide_by_pool_deviation:
        variance = mean * (1 - mean) * total / jnp.maximum(total - 1, 1.0)
        deviation = jnp.maximum(jnp.sqrt(variance), advantage_epsilon)
        deviation = jnp.where(several, deviation, 1.0)
        advantages = advantages / (deviation + advantage_epsilon)
    return broadcast(advantages, mask)
