"""A critic of denoising steps (TraceRL, arXiv:2509.06949): values of the context of each token.

A token's segment is the run of steps in which the sampler filled it (`segmentation="trajectory"`),
its value what the critic says in the context of that run. With r* and V* the means over the tokens
of a run t, and the next run t + 1 worth 0 behind the last one:

    R[j] = r[j] + gamma * R*[t + 1]
    A[j] = r[j] - V[j] + gamma * V*[t + 1] + gamma * lambda * A*[t + 1]

The reward is that of the sample, divided as the group's z-score is; all tokens of the last run have
it, others none. Advantages are not whitened.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.baselines import group_zscore
from rljax.objectives.credit.gae import check_unit, generalized_advantages
from rljax.objectives.credit.macro_gae import of_token, segment_totals
from rljax.objectives.credit.slots import at_last_slot, next_true


class Runs(NamedTuple):
    """The runs of each row in the order of the sampler, all [N, T]: slot t is run t."""

    rewards: Array  # f32, r*
    mask: Array  # bool, there is such a run
    tokens: Array  # i32, how many it has


def _runs(
    token_rewards: Array, mask: Array, group_ids: Array, segment_ids: Array, epsilon: float
) -> Runs:
    chex.assert_equal_shape([token_rewards, mask, segment_ids])
    shares = group_zscore(token_rewards, mask, group_ids, advantage_epsilon=epsilon)
    tokens = segment_totals(jnp.ones(mask.shape, jnp.int32), mask, segment_ids)
    there = tokens > 0
    last = jnp.where(there, jnp.arange(mask.shape[-1]), -1).max(axis=-1, keepdims=True)
    at_end = there & (jnp.arange(mask.shape[-1]) == last)
    return Runs(jnp.where(at_end, at_last_slot(shares, mask)[:, None], 0.0), there, tokens)


def trajectory_gae(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    values: Array,
    segment_ids: Array,
    *,
    gamma: float = 1.0,
    gae_lambda: float = 1.0,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """GAE over the runs of a denoising trajectory; a token keeps its own value (TraceRL).

    gamma = lambda = 1 gives R - V[j]; lambda = 0 gives r[j] - V[j] + gamma V*[t + 1].

    Args:
        token_rewards: [N, T] f32; a sample's score is their sum.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        values: [N, T] f32, of the context that each token was filled in.
        segment_ids: [N, T] i32, run of each token, in the order of the sampler.
        gamma: discount per run, in [0, 1].
        gae_lambda: weight of later TD errors, in [0, 1].
        advantage_epsilon: added to the deviation of the group.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma, gae_lambda=gae_lambda)
    runs = _runs(token_rewards, mask, group_ids, segment_ids, advantage_epsilon)
    own = jax.lax.stop_gradient(jnp.where(mask, values, 0.0))
    means = segment_totals(own, mask, segment_ids) / jnp.maximum(runs.tokens, 1)
    later = generalized_advantages(
        runs.rewards, means, runs.mask, gamma=gamma, gae_lambda=gae_lambda
    )
    behind = next_true(means, runs.mask, 0.0) + gae_lambda * next_true(later, runs.mask, 0.0)
    return of_token(runs.rewards + gamma * behind, mask, segment_ids) - own


def trajectory_returns(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    segment_ids: Array,
    *,
    gamma: float = 1.0,
    advantage_epsilon: float = 1e-6,
) -> tuple[Array, Array]:
    """What a critic of denoising steps learns: the discounted reward to come (TraceRL).

    Args:
        token_rewards, mask, group_ids, segment_ids, gamma, advantage_epsilon: as for
            `trajectory_gae`.

    Returns:
        [N, T] f32 targets, constant, zero outside the mask, and the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma)
    runs = _runs(token_rewards, mask, group_ids, segment_ids, advantage_epsilon)
    nothing = jnp.zeros_like(runs.rewards)
    # With values of 0 and lambda 1 the advantage of a run is what is still to come.
    to_come = generalized_advantages(runs.rewards, nothing, runs.mask, gamma=gamma, gae_lambda=1.0)
    return of_token(to_come, mask, segment_ids), mask
