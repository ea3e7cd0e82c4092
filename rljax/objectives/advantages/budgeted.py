"""Long samples where they pay most, up to a budget; right samples of the chosen mode are kept."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, group_statistics, scores_of
from rljax.objectives.parts import check_field

GAINS = ("best", "mean")


class Choice(NamedTuple):
    """What is trained on, [N] each."""

    kept: Array  # bool, right samples of the mode that their prompt was given
    extended: Array  # bool, the row's prompt was given the long mode


def _mode_values(rewards: Array, in_mode: Array, segment: Array, gain: str) -> Array:
    """Reward of a mode for each segment [N]; 0 where it has no sample."""
    n = rewards.shape[0]
    if gain == "best":
        best = jax.ops.segment_max(jnp.where(in_mode, rewards, -jnp.inf), segment, n)
        return jnp.where(jnp.isfinite(best), best, 0.0)
    total = jax.ops.segment_sum(jnp.where(in_mode, rewards, 0.0), segment, n)
    count = jax.ops.segment_sum(in_mode.astype(rewards.dtype), segment, n)
    return total / jnp.maximum(count, 1.0)


def budgeted_choice(
    scores: Array,
    present: Array,
    group_ids: Array,
    lengths: Array,
    correct: Array,
    *,
    long_from: int,
    budget: float,
    gain: str,
) -> Choice:
    """Gives the long mode to the prompts that gain most by it, at most floor(budget * prompts).

    With one constraint and one mode for each prompt this is the exact optimum of the total reward.
    Ties between modes go to the short one, ties between prompts to the smaller group id.

    Args:
        scores: [N] f32, >= 0 where right; the scores of wrong rows count as 0.
        present: [N] bool, rows that are not empty.
        group_ids: [N] i32.
        lengths: [N] tokens.
        correct: [N] bool.
        long_from: least number of tokens of a long sample.
        budget: largest share of prompts with the long mode.
        gain: "best" or "mean" reward of a mode's samples.

    Returns:
        `Choice`.
    """
    n = scores.shape[0]
    segment = group_statistics(scores, present, group_ids).segment
    rewards = jnp.where(correct & present, scores, 0.0)
    is_long = lengths >= long_from
    gains = _mode_values(rewards, present & is_long, segment, gain) - _mode_values(
        rewards, present & ~is_long, segment, gain
    )
    has_rows = jax.ops.segment_max(present.astype(jnp.int32), segment, n) > 0
    order = jnp.argsort(jnp.where(has_rows, -gains, jnp.inf), stable=True)
    place = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    # 0.29 * 100 is 28.999999: the slack is far below one prompt.
    allowed = jnp.floor(budget * has_rows.sum() + 1e-4)
    extended = (has_rows & (gains > 0) & (place < allowed))[segment]
    return Choice(present & correct & (is_long == extended), extended)


def budgeted(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    correct: Array,
    *,
    long_from: int = 512,
    long_budget: float = 0.25,
    long_gain: str = "best",
) -> Array:
    """Weighted likelihood of the policy's right samples, long ones within a budget (IBPO).

    arXiv:2501.17974 maximises the reward subject to a bound on the fraction of long responses.
    Over the batch, each prompt gets one mode (`budgeted_choice`), and its right samples of that
    mode get weight 1, all others 0. Scaled by rows / sum of weights, so that the loss

        -sum of w * mean over t of log pi / sum of w

    comes out with the surrogate "policy_gradient" and the aggregation "sequence_mean_token_mean".

    Args:
        token_rewards: [N, T] f32; sums over rows are >= 0 where right.
        mask: [N, T] bool; its True slots are a row's length.
        group_ids: [N] i32, equal for the samples of one prompt.
        correct: [N] bool.
        long_from: least number of tokens of a long sample.
        long_budget: largest share of the batch's prompts that get the long mode, in [0, 1];
            rounded down to whole prompts.
        long_gain: what a mode is worth to a prompt: the "best" reward of its samples, or their
            "mean", which is less noisy with several samples for each mode.

    Returns:
        [N, T] f32, constant, zero outside the mask; all 0 where nothing is kept.

    Raises:
        ValueError: for a field outside its range.
    """
    check_field("long_from", long_from, lambda x: x >= 1, ">= 1")
    check_field("long_budget", long_budget, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("long_gain", long_gain, lambda x: x in GAINS, f"one of {', '.join(GAINS)}")
    scores, present = scores_of(token_rewards, mask, group_ids)
    chex.assert_equal_shape([scores, correct])
    choice = budgeted_choice(
        scores,
        present,
        group_ids,
        mask.sum(axis=-1),
        correct,
        long_from=long_from,
        budget=long_budget,
        gain=long_gain,
    )
    weights = choice.kept.astype(scores.dtype)
    return broadcast(weights * present.sum() / jnp.maximum(weights.sum(), 1.0), mask)
