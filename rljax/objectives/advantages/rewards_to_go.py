"""Sums of the rewards that are still to come, and baselines that are subtracted from them."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field
from rljax.objectives.whitening import whiten


def rewards_to_go(token_rewards: Array, mask: Array, *, gamma: float = 1.0) -> Array:
    """R[t] = r[t] + gamma * R[t + 1], where t + 1 is the next True slot.

    Args:
        token_rewards: [N, T] f32; masked slots may hold anything, NaN included.
        mask: [N, T] bool.
        gamma: discount per token, in [0, 1].

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: if `gamma` lies outside [0, 1].
    """
    check_field("gamma", gamma, lambda x: 0 <= x <= 1, "in [0, 1]")
    chex.assert_rank(token_rewards, 2)
    chex.assert_equal_shape([token_rewards, mask])
    rewards = jnp.where(mask, jax.lax.stop_gradient(token_rewards), 0.0)

    def earlier(later: Array, slot: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, counts = slot
        here = jnp.where(counts, reward + gamma * later, later)
        return here, here

    end = jnp.zeros(rewards.shape[0], rewards.dtype)
    _, returns = jax.lax.scan(earlier, end, (rewards.T, mask.T), reverse=True)
    return jnp.where(mask, returns.T, 0.0)


def reinforce_plus_plus(
    token_rewards: Array, mask: Array, *, gamma: float = 1.0, whiten_epsilon: float = 1e-8
) -> Array:
    """Discounted rewards-to-go, whitened over all tokens of the batch (arXiv:2501.03262).

    The paper's token rewards are the outcome on the last token and -beta * k1 on every token
    (`kl_placement="reward"`).

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        gamma: discount per token, in [0, 1].
        whiten_epsilon: added to the variance.

    Returns:
        [N, T] f32, constant, zero outside the mask. A batch with a single token keeps its reward.

    Raises:
        ValueError: if `gamma` lies outside [0, 1].
    """
    returns = rewards_to_go(token_rewards, mask, gamma=gamma)
    return whiten(returns, mask, epsilon=whiten_epsilon)


def remax(token_rewards: Array, mask: Array, greedy_scores: Array) -> Array:
    """A = reward-to-go - score of the greedy completion of the prompt (ReMax, arXiv:2310.10505).

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        greedy_scores: [N] f32, the same for all samples of a prompt; NaN where the greedy
            completion has no verdict: without a baseline the prompt's advantages are 0.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    chex.assert_shape(greedy_scores, (token_rewards.shape[0],))
    baseline = jax.lax.stop_gradient(greedy_scores)[:, None]
    compared = mask & ~jnp.isnan(baseline)
    return jnp.where(compared, rewards_to_go(token_rewards, mask) - baseline, 0.0)
