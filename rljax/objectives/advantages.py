"""Rewards to advantages: how much better than expected each sampled token was.

Every part maps per-token rewards [N, T] to advantages [N, T]. The *score* of a row is the sum of
its token rewards inside the mask, and all parts here give every token of a row the same value.
They run on the whole batch, before rows are shuffled, split or sharded; groups are found through
`group_ids`, never through the order of rows.

Rows without a single True in the mask are not there: they get 0 and enter no statistic. To train
on fewer tokens than were scored (for example to leave truncated rows out of the loss but inside
their group's mean), compute advantages with the full mask and aggregate with the narrower one.

Methods that give tokens of one row different values (rewards-to-go, whitening over tokens, a
critic) belong in this table too.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount


class _Groups(NamedTuple):
    """Statistics of each row's own group, gathered back to the rows: all [N]."""

    size: Array  # non-empty rows of the group
    mean: Array  # mean score of those
    homogeneous: Array  # bool, all their scores are equal
    segment: Array  # i32 in [0, N), equal for rows of one group


def _scores(token_rewards: Array, mask: Array, group_ids: Array | None = None) -> tuple:
    """Scores [N] without gradient, and which rows are not empty [N]."""
    chex.assert_rank(token_rewards, 2)
    chex.assert_equal_shape([token_rewards, mask])
    if group_ids is not None:
        chex.assert_shape(group_ids, (token_rewards.shape[0],))
    scores = jnp.where(mask, token_rewards, 0.0).sum(axis=-1)
    return jax.lax.stop_gradient(scores), mask.any(axis=-1)


def _groups(scores: Array, present: Array, group_ids: Array) -> _Groups:
    n = scores.shape[0]
    # Arbitrary ids become 0 .. N-1; `size=n` keeps the shape static under jit.
    _, segment = jnp.unique(group_ids, return_inverse=True, size=n)
    segment = segment.reshape(n)

    def total(values):
        return jax.ops.segment_sum(jnp.where(present, values, 0.0), segment, n)

    size = total(jnp.ones_like(scores))
    mean = total(scores) / jnp.maximum(size, 1.0)
    highest = jax.ops.segment_max(jnp.where(present, scores, -jnp.inf), segment, n)
    lowest = jax.ops.segment_min(jnp.where(present, scores, jnp.inf), segment, n)
    # Compared exactly: the mean of equal scores can be off by a rounding error, which a division
    # by their (then tiny) deviation would blow up.
    return _Groups(size[segment], mean[segment], (highest <= lowest)[segment], segment)


def _broadcast(row_values: Array, mask: Array) -> Array:
    return jnp.where(mask, jax.lax.stop_gradient(row_values)[:, None], 0.0)


def none(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """No baseline: A = score (REINFORCE).

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, prompt of each row; not read.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    scores, _ = _scores(token_rewards, mask, group_ids)
    return _broadcast(scores, mask)


def batch_mean(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - mean score of the batch's non-empty rows.

    The row itself is part of its baseline, which shrinks the expected gradient by (N - 1) / N.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32; not read.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    scores, present = _scores(token_rewards, mask, group_ids)
    mean = jnp.where(present, scores, 0.0).sum() / jnp.maximum(present.sum(), 1)
    return _broadcast(scores - mean, mask)


def ema(token_rewards: Array, mask: Array, group_ids: Array, baseline: Array) -> Array:
    """A = score - running mean of earlier batches.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32; not read.
        baseline: [] f32, part of the train state. It must not have seen this batch yet: call
            `update_ema_baseline` afterwards.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    scores, _ = _scores(token_rewards, mask, group_ids)
    return _broadcast(scores - baseline, mask)


def update_ema_baseline(
    baseline: Array, token_rewards: Array, mask: Array, *, ema_decay: float = 0.9
) -> Array:
    """The baseline for the next batch: decay * baseline + (1 - decay) * mean score.

    Args:
        baseline: [] f32.
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        ema_decay: weight of the past, in [0, 1].

    Returns:
        [] f32; unchanged when every row is empty.

    Raises:
        ValueError: if `ema_decay` lies outside [0, 1].
    """
    if not 0.0 <= ema_decay <= 1.0:
        raise ValueError(
            f"ema_decay is {ema_decay}; it must lie in [0, 1] (config.<stage>.objective.ema_decay)."
        )
    scores, present = _scores(token_rewards, mask)
    mean = jnp.where(present, scores, 0.0).sum() / jnp.maximum(present.sum(), 1)
    updated = ema_decay * baseline + (1.0 - ema_decay) * mean
    return jnp.where(present.any(), updated, baseline)


def group_leave_one_out(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - mean score of the other rows of the group (RLOO, arXiv:2402.14740).

    Equal to n / (n - 1) * (score - group mean). A group of one has no other rows: A = 0.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt; any integers in any order.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group agree.
    """
    scores, present = _scores(token_rewards, mask, group_ids)
    group = _groups(scores, present, group_ids)
    scale = group.size / jnp.maximum(group.size - 1.0, 1.0)
    return _broadcast(jnp.where(group.homogeneous, 0.0, scale * (scores - group.mean)), mask)


def group_mean(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = score - group mean (Dr. GRPO, arXiv:2503.20783).

    A group of one has no mean to compare with and keeps its score, as in the reference code.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt; any integers in any order.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree.
    """
    scores, present = _scores(token_rewards, mask, group_ids)
    group = _groups(scores, present, group_ids)
    centred = jnp.where(group.homogeneous, 0.0, scores - group.mean)
    return _broadcast(jnp.where(group.size == 1, scores, centred), mask)


def group_zscore(
    token_rewards: Array, mask: Array, group_ids: Array, *, advantage_epsilon: float = 1e-6
) -> Array:
    """A = (score - group mean) / (group deviation + epsilon) (GRPO, arXiv:2402.03300).

    The deviation is the unbiased one (divisor n - 1), as in verl and tunix. A group of one takes
    mean 0 and deviation 1, so it keeps its score up to epsilon.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt; any integers in any order.
        advantage_epsilon: added to the deviation; 1e-6 in verl and tunix, 1e-4 in TRL. It matters
            for rewards that hardly differ.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree.
    """
    scores, present = _scores(token_rewards, mask, group_ids)
    group = _groups(scores, present, group_ids)
    centred = jnp.where(group.homogeneous, 0.0, scores - group.mean)
    squares = jax.ops.segment_sum(
        jnp.where(present, centred**2, 0.0), group.segment, scores.shape[0]
    )[group.segment]
    deviation = jnp.sqrt(squares / jnp.maximum(group.size - 1.0, 1.0))
    alone = group.size == 1
    numerator = jnp.where(alone, scores, centred)
    return _broadcast(numerator / (jnp.where(alone, 1.0, deviation) + advantage_epsilon), mask)


ADVANTAGES = {
    "none": none,
    "batch_mean": batch_mean,
    "ema": ema,
    "group_leave_one_out": group_leave_one_out,
    "group_mean": group_mean,
    "group_zscore": group_zscore,
}

# Parts whose baseline is the prompt's other samples: at least two samples per prompt.
NEEDS_GROUPS = frozenset({"group_leave_one_out", "group_mean", "group_zscore"})

# Parts with a state: they take it as the last positional argument, and the function here moves
# it on after use. Its keyword-only arguments are config fields of the part as well.
BASELINE_UPDATES = {"ema": update_ema_baseline}


def share_without_signal(token_rewards: Array, mask: Array, group_ids: Array) -> SumCount:
    """Share of groups whose scores are all equal: nothing to learn for a group baseline.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32.

    Returns:
        `SumCount` over groups with at least one non-empty row. A group of one counts as equal.
    """
    scores, present = _scores(token_rewards, mask, group_ids)
    group = _groups(scores, present, group_ids)
    share_of_row = jnp.where(present, 1.0 / jnp.maximum(group.size, 1.0), 0.0)
    return SumCount(jnp.where(group.homogeneous, share_of_row, 0.0).sum(), share_of_row.sum())
