"""A baseline for each slot: the one that leaves the least variance."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_max, group_statistics, group_sum, scores_of
from rljax.objectives.advantages.rewards_to_go import rewards_to_go
from rljax.objectives.credit.slots import from_front, to_front
from rljax.objectives.parts import check_field


def optimal_token_baseline(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    old_logprobs: Array,
    old_collision: Array,
    *,
    zero_tail: bool = True,
    baseline_epsilon: float = 1e-8,
) -> Array:
    """Reward-to-go - a baseline for each group and slot, weighted by the gradients so far (verl).

        w[n, t] = 1 - 2 pi[n, t] + sum over v of pi_v^2     squared gradient in the logits
        W[n, t] = sum of w[n, s] over s <= t
        b[g, t] = sum over n of W[n, t] R[n, t] / (sum over n of W[n, t] + epsilon)

    over the rows n of the group that have a token t, counted over the tokens of the mask: what is
    inserted between them does not count.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        old_logprobs: [N, T] f32, log-probabilities of the tokens under the policy that sampled.
        old_collision: [N, T] f32, sum of squared probabilities of that policy's next token.
        zero_tail: no baseline in slots that only one row of the group has reached: its own reward
            would be its baseline.
        baseline_epsilon: added to the sum of weights, >= 0.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 in a slot where the returns of a
        group agree and there is a baseline. A group of one has none.

    Raises:
        ValueError: if `baseline_epsilon` is negative.
    """
    check_field("baseline_epsilon", baseline_epsilon, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([mask, old_logprobs, old_collision])
    where = mask
    token_rewards, old_logprobs, old_collision, mask = (
        to_front(x, where) for x in (token_rewards, old_logprobs, old_collision, where)
    )
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    returns = rewards_to_go(token_rewards, mask)
    logprobs = jnp.where(mask, jax.lax.stop_gradient(old_logprobs), 0.0)
    collision = jnp.where(mask, jax.lax.stop_gradient(old_collision), 0.0)
    squared = jnp.where(mask, 1.0 - 2.0 * jnp.exp(logprobs) + collision, 0.0)
    # The squared norm of one-hot minus pi; rounding may bring it below 0.
    energy = jnp.where(mask, jnp.cumsum(jnp.maximum(squared, 0.0), axis=-1), 0.0)
    total = group_sum(energy, group.segment) + baseline_epsilon
    weighted = group_sum(energy * returns, group.segment)
    baseline = jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), 0.0)
    highest = group_max(jnp.where(mask, returns, -jnp.inf), group.segment)
    lowest = -group_max(jnp.where(mask, -returns, -jnp.inf), group.segment)
    # Without a rounding error, where the weights make a baseline at all.
    agree = (highest == lowest) & (group_sum(energy, group.segment) > 0)
    baseline = jnp.where(agree, highest, baseline)
    has_baseline = (group.size > 1)[:, None]
    if zero_tail:
        has_baseline &= group_sum(mask.astype(scores.dtype), group.segment) > 1
    advantages = returns - jnp.where(has_baseline, baseline, 0.0)
    return jnp.where(where, from_front(advantages, where), 0.0)
