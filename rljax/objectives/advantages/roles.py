"""Episodes of several roles: what each of them is compared with.

`group_ids` are those of samples of one prompt *and* one role, or of one episode and one role where
a role has several players (training/collect/episode_roles.py).
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_max,
    group_statistics,
    group_sum,
    scores_of,
)
from rljax.objectives.credit.macro_gae import of_token, position_in_segment, segment_totals
from rljax.objectives.means import between, ratio
from rljax.objectives.parts import check_field

UNIT = (lambda x: 0.0 <= x <= 1.0, "in [0, 1]")


def role_baseline(
    token_rewards: Array,
    mask: Array,
    roles: Array,
    role_baselines: Array,
    role_weights: Array,
    *,
    role_decay: float = 0.95,
    role_bias_correction: bool = False,
) -> Array:
    """A = score - moving average of the role's earlier scores (RAE of SPIRAL, arXiv:2506.24119).

        A = R - b[role],   then   b[role] = decay * b[role] + (1 - decay) * R

    sample by sample, in the order of rows. The baseline has not seen the score that it is taken
    from, so that the gradient is unbiased; in the first samples of a role it is near 0. How the
    paper's loss averages over tokens was not seen.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool; a row without a True slot neither gets nor changes anything.
        roles: [N] i32, from 0; of different games they are different ones.
        role_baselines: [R] f32, b of each role before these samples, part of the train state.
        role_weights: [R] f32, 1 - decay^n after n samples of the role.
        role_decay: weight of the past, 0.95 in the paper.
        role_bias_correction: the baseline is b / (1 - decay^n), 0 for n = 0: the mean of what was
            seen, weighted, from the second sample on. Not in the paper.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: if `role_decay` lies outside [0, 1].
    """
    check_field("role_decay", role_decay, *UNIT)
    scores, present = scores_of(token_rewards, mask)
    before, weights, _ = _averages(scores, present, roles, role_baselines, role_weights, role_decay)
    if role_bias_correction:
        before = ratio(before, weights)
    return broadcast(scores - before, mask)


def update_role_baselines(
    token_rewards: Array,
    mask: Array,
    roles: Array,
    role_baselines: Array,
    role_weights: Array,
    *,
    role_decay: float = 0.95,
) -> tuple[Array, Array]:
    """The state of `role_baseline` after a step: its last two arrays, [R] f32 each."""
    check_field("role_decay", role_decay, *UNIT)
    scores, present = scores_of(token_rewards, mask)
    return _averages(scores, present, roles, role_baselines, role_weights, role_decay)[2]


def _averages(
    scores: Array,
    present: Array,
    roles: Array,
    baselines: Array,
    weights: Array,
    decay: float | Array,
) -> tuple[Array, Array, tuple[Array, Array]]:
    """The average and weight of each row's role before the row, [N] each; and those of all after.

    Args:
        scores: [N] f32.
        present: [N] bool.
        roles: [N] i32.
        baselines: [R] f32; weights: [R] f32.
        decay: weight of the past.
    """

    def one(state: tuple[Array, Array], row: tuple[Array, Array, Array]):
        score, there, role = row
        own = state[0][role], state[1][role]
        # b + (1 - decay) * (R - b): what agrees with its average leaves it exactly as it is.
        step = jnp.where(there, 1.0 - decay, 0.0)
        moved = own[0] + step * (score - own[0]), own[1] + step * (1.0 - own[1])
        return tuple(x.at[role].set(y) for x, y in zip(state, moved, strict=True)), own

    after, (before, weight) = jax.lax.scan(one, (baselines, weights), (scores, present, roles))
    return before, weight, after


def role_group_mean(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - mean score of the group; 0 for a group of one (hierarchical GRPO of prime-rl).

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, of one role in one episode, or of one role and prompt.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group agree.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    return broadcast(scores - group_statistics(scores, present, group_ids).mean, mask)


def role_turn_zscore(
    token_rewards: Array,
    mask: Array,
    segment_ids: Array,
    roles: Array,
    *,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """A = (reward of the turn - mean) / (deviation + epsilon), over all turns of the role.

    Every turn has its own reward and no other: nothing that comes later counts for it. The
    deviation has divisor n - 1; a role with one turn has A = 0. The estimator of WaltzRL's paper
    (arXiv:2510.08240) was not seen; this z-score over a step, for each agent apart, is ours.

    Args:
        token_rewards: [N, T] f32; those of a turn are added up.
        mask: [N, T] bool.
        segment_ids: [N, T] i32, number of each token's turn in its row.
        roles: [N] i32.
        advantage_epsilon: added to the deviation.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all turns of a role agree.
    """
    totals = of_token(segment_totals(token_rewards, mask, segment_ids), mask, segment_ids)
    rewards = jax.lax.stop_gradient(totals)
    position, _ = position_in_segment(mask, segment_ids)
    first = mask & (position == 0)  # a turn counts once, however long it is
    _, role = jnp.unique(roles, return_inverse=True, size=len(roles))
    role = role.reshape(len(roles))
    count = group_sum(first.sum(axis=-1), role)
    total = group_sum(jnp.where(first, rewards, 0.0).sum(axis=-1), role)
    highest = group_max(jnp.where(first, rewards, -jnp.inf).max(axis=-1), role)
    lowest = -group_max(jnp.where(first, -rewards, -jnp.inf).max(axis=-1), role)
    centred = rewards - between(total / jnp.maximum(count, 1), lowest, highest)[:, None]
    squares = group_sum(jnp.where(first, centred**2, 0.0).sum(axis=-1), role)
    deviation = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
    return jnp.where(mask, ratio(centred, deviation[:, None] + advantage_epsilon), 0.0)
