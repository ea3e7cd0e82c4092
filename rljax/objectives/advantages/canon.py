"""Conditional advantages: a group is split at the median of a metric, and its halves compared."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.canon_schedule import intra_weight
from rljax.objectives.advantages.groups import (
    broadcast,
    group_statistics,
    scores_of,
    weighted_group_mean,
)
from rljax.objectives.means import mean_of
from rljax.objectives.parts import check_field

HALVES = ("high", "low")


class Halves(NamedTuple):
    """Where each row stands in its group, [N] each."""

    high: Array  # bool, in the half with the larger metric
    high_mean: Array  # mean score of that half
    low_mean: Array  # mean score of the other one


def group_ranks(metric: Array, present: Array, segment: Array) -> Array:
    """Rank of each row within its group, ascending: [N] i32.

    Equal values keep the order of the rows, and empty rows come last.
    """
    n = metric.shape[0]
    order = jnp.lexsort((jnp.where(present, metric, 0.0), ~present, segment))
    position = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    return position - jax.ops.segment_min(position, segment, n)[segment]


def halves(scores: Array, present: Array, group_ids: Array, metric: Array) -> Halves:
    """Splits each group of n rows: floor(n / 2) rows with the smallest metric, and the others."""
    group = group_statistics(scores, present, group_ids)
    ranks = group_ranks(metric, present, group.segment)
    high = ranks >= jnp.floor(group.size / 2)

    def half_mean(half: Array) -> Array:
        rows = (present & half).astype(scores.dtype)
        return jnp.where(group.size > 1, weighted_group_mean(scores, rows, group.segment), 0.0)

    return Halves(high, half_mean(high), half_mean(~high))


def _compare(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    metric: Array,
    step: Array,
    *,
    discouraged: str,
    discouraged_scale: float,
    advantage_divisor: float,
    right_score: float,
    **schedule,
) -> Array:
    check_field("discouraged", discouraged, lambda x: x in HALVES, f"one of {', '.join(HALVES)}")
    check_field("discouraged_scale", discouraged_scale, lambda x: x >= 0, ">= 0")
    check_field("advantage_divisor", advantage_divisor, lambda x: x > 0, "> 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    half = halves(scores, present, group_ids, metric)
    high_scale = discouraged_scale if discouraged == "high" else 1.0
    low_scale = 1.0 if discouraged == "high" else discouraged_scale
    between = jnp.where(
        half.high,
        high_scale * scores - low_scale * half.low_mean,
        low_scale * scores - high_scale * half.high_mean,
    )
    within = scores - jnp.where(half.high, half.high_mean, half.low_mean)
    accuracy = mean_of(scores, present) / right_score
    intra = jax.lax.stop_gradient(intra_weight(step, accuracy, **schedule))
    return broadcast(((1.0 - intra) * between + intra * within) / advantage_divisor, mask)


def canon_length(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    step: Array,
    *,
    inter_schedule: str = "constant",
    inter_weight: float = 1.0,
    inter_steps: int = 150,
    inter_warmup: int = 30,
    inter_cycles: int = 3,
    intra_high: float = 0.6,
    intra_low: float = 0.0,
    discouraged: str = "high",
    discouraged_scale: float = 1.0,
    advantage_divisor: float = 1.0,
    right_score: float = 1.0,
) -> Array:
    """Compares long and short samples of a group, and those alike (CANON, arXiv:2509.23962).

    The group's rows are split at the median length into a low and a high half; M is a half's mean
    score.

        inter = score - M of the other half     which direction pays?
        intra = score - M of the own half       which sample is better, given the direction?
        A = (w * inter + (1 - w) * intra) / divisor

    w = 1/2 with equal halves is Dr. GRPO. For shorter answers: with a scale s < 1, `inter` is
    s * score - M of the other half in the discouraged half, and score - s * M of the other half
    elsewhere. A reward is worth less in the discouraged half, so that a group is trained on even
    when all its samples are right.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        step: [] i32, steps done; read by the schedules in time.
        inter_schedule: how w changes: "constant", "accuracy", "inaccuracy", "intra_first" or
            "inter_first" (`canon_schedule.py`).
        inter_weight: weight w of the comparison between halves where it is constant, in [0, 1]; the
            paper's mu.
        inter_steps: steps of the schedules of w in time, warm-up included.
        inter_warmup: steps of linear warm-up of the schedules of w in time.
        inter_cycles: cosine cycles of w after the warm-up.
        intra_high: upper end of 1 - w in the cycles.
        intra_low: lower end of 1 - w in the cycles.
        discouraged: the half, "high" or "low", whose rewards are scaled.
        discouraged_scale: factor s of the rewards of the discouraged half; the paper's alpha, 1
            for none.
        advantage_divisor: the largest length of a completion, with an aggregation that sums over
            tokens; 1 with one that divides by a length itself.
        right_score: score of a right sample, for the schedules that follow the accuracy; by default
            `right_at` of config.scoring.rewards.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree and s = 1. A group of one keeps its score. Equal metrics are split by the
        order of the rows.

    Raises:
        ValueError: for a field outside its range.
    """
    lengths = mask.sum(axis=-1).astype(token_rewards.dtype)
    return _compare(
        token_rewards,
        mask,
        group_ids,
        lengths,
        step,
        inter_schedule=inter_schedule,
        inter_weight=inter_weight,
        inter_steps=inter_steps,
        inter_warmup=inter_warmup,
        inter_cycles=inter_cycles,
        intra_high=intra_high,
        intra_low=intra_low,
        discouraged=discouraged,
        discouraged_scale=discouraged_scale,
        advantage_divisor=advantage_divisor,
        right_score=right_score,
    )


def canon_entropy(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    old_entropy: Array,
    step: Array,
    *,
    inter_schedule: str = "constant",
    inter_weight: float = 1.0,
    inter_steps: int = 150,
    inter_warmup: int = 30,
    inter_cycles: int = 3,
    intra_high: float = 0.6,
    intra_low: float = 0.0,
    discouraged: str = "high",
    discouraged_scale: float = 1.0,
    advantage_divisor: float = 1.0,
    right_score: float = 1.0,
) -> Array:
    """`canon_length` with the mean token entropy of the old policy as the metric.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        old_entropy: [N, T] f32, nats; masked slots may hold anything.
        step: [] i32, steps done.
        inter_schedule: as in `canon_length`, like all fields below.
        inter_weight: the paper's mu.
        inter_steps: all steps of a schedule in time.
        inter_warmup: its steps of warm-up.
        inter_cycles: its cosine cycles.
        intra_high: upper end of 1 - w in a cycle.
        intra_low: lower end of 1 - w in a cycle.
        discouraged: "high" as in the paper; the authors' code discourages "low" with this metric.
        discouraged_scale: the paper's alpha.
        advantage_divisor: the largest length of a completion, or 1.
        right_score: score of a right sample.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    chex.assert_equal_shape([mask, old_entropy])
    tokens = jnp.maximum(mask.sum(axis=-1), 1)
    entropy = jnp.where(mask, jax.lax.stop_gradient(old_entropy), 0.0).sum(axis=-1) / tokens
    return _compare(
        token_rewards,
        mask,
        group_ids,
        entropy,
        step,
        inter_schedule=inter_schedule,
        inter_weight=inter_weight,
        inter_steps=inter_steps,
        inter_warmup=inter_warmup,
        inter_cycles=inter_cycles,
        intra_high=intra_high,
        intra_low=intra_low,
        discouraged=discouraged,
        discouraged_scale=discouraged_scale,
        advantage_divisor=advantage_divisor,
        right_score=right_score,
    )


def canon_order(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    step: Array,
    *,
    inter_schedule: str = "constant",
    inter_weight: float = 1.0,
    inter_steps: int = 150,
    inter_warmup: int = 30,
    inter_cycles: int = 3,
    intra_high: float = 0.6,
    intra_low: float = 0.0,
    advantage_divisor: float = 1.0,
    right_score: float = 1.0,
) -> Array:
    """`canon_length` with halves by the order of rows, which means nothing: a control experiment.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        step: [] i32, steps done.
        inter_schedule: as in `canon_length`, like all fields below.
        inter_weight: the paper's mu.
        inter_steps: all steps of a schedule in time.
        inter_warmup: its steps of warm-up.
        inter_cycles: its cosine cycles.
        intra_high: upper end of 1 - w in a cycle.
        intra_low: lower end of 1 - w in a cycle.
        advantage_divisor: the largest length of a completion, or 1.
        right_score: score of a right sample.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    return _compare(
        token_rewards,
        mask,
        group_ids,
        jnp.arange(mask.shape[0]).astype(token_rewards.dtype),
        step,
        inter_schedule=inter_schedule,
        inter_weight=inter_weight,
        inter_steps=inter_steps,
        inter_warmup=inter_warmup,
        inter_cycles=inter_cycles,
        intra_high=intra_high,
        intra_low=intra_low,
        discouraged="high",
        discouraged_scale=1.0,
        advantage_divisor=advantage_divisor,
        right_score=right_score,
    )
