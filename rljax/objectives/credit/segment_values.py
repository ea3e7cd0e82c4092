"""Advantages of segments from Monte-Carlo values of the states between them (SPO, VinePPO)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.macro_gae import of_token, position_in_segment, segment_totals
from rljax.objectives.means import mean_of
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.whitening import whiten


def monte_carlo_values(
    rollout_scores: Array,
    rollout_finished: Array,
    rollout_mask: Array,
    *,
    unfinished_score: float | None = 0.0,
) -> tuple[Array, SumCount]:
    """Value of a state: the mean score of continuations sampled from it (arXiv:2410.01679, eq. 5).

    Args:
        rollout_scores: [..., K] f32, scores of K continuations of each state (9 in both papers).
        rollout_finished: [..., K] bool, ended by themselves.
        rollout_mask: [..., K] bool, False where there is no such continuation.
        unfinished_score: score of a continuation that was cut off (0 in SPO); None keeps its own.

    Returns:
        [...] f32, constant, NaN for a state without continuations; and the share of continuations
        that were cut off.
    """
    chex.assert_equal_shape([rollout_scores, rollout_finished, rollout_mask])
    scores = rollout_scores
    if unfinished_score is not None:
        scores = jnp.where(rollout_finished, scores, unfinished_score)
    scores = jax.lax.stop_gradient(scores)
    means = mean_of(scores, rollout_mask, axis=-1)
    values = jnp.where(rollout_mask.any(axis=-1), means, jnp.nan)
    return values, masked(~rollout_finished, rollout_mask)


def segment_values(
    state_values: Array,
    token_rewards: Array,
    mask: Array,
    segment_ids: Array,
    *,
    fill_values: bool = False,
) -> tuple[Array, Array]:
    """Values at the two ends of each token's segment, gamma = 1.

        start[j] = V of the state before the segment's first token
        end[j]   = rewards of segment j + start[j + 1],   with start = 0 after the last segment

    so that with an outcome on the last token the end of the last segment is the score.

    Args:
        state_values: [N, T] f32, value of the state before each token, NaN where it was not
            estimated. Read on the first token of each segment.
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        segment_ids: [N, T] i32, from 0 in each row, along the row.
        fill_values: a missing start takes the end of its segment, from the last segment to the
            first (VinePPO beyond its cap): the segment has advantage 0, and its reward reaches the
            segment before it.

    Returns:
        start and end, [N, T] f32, constant; NaN where not known, 0 outside the mask.
    """
    chex.assert_rank(mask, 2)
    chex.assert_equal_shape([state_values, token_rewards, mask, segment_ids])
    position, _ = position_in_segment(mask, segment_ids)
    first = mask & (position == 0)
    starts = segment_totals(jnp.where(first, state_values, 0.0), mask, segment_ids)
    rewards = segment_totals(token_rewards, mask, segment_ids).astype(starts.dtype)
    there = segment_totals(jnp.ones_like(position), mask, segment_ids) > 0

    def earlier(next_start: Array, segment: tuple[Array, Array, Array]):
        start, reward, exists = segment
        end = reward + next_start
        if fill_values:
            start = jnp.where(jnp.isnan(start), end, start)
        return jnp.where(exists, start, next_start), (start, end)

    after = jnp.zeros(mask.shape[0], starts.dtype)
    _, ends = jax.lax.scan(earlier, after, (starts.T, rewards.T, there.T), reverse=True)
    start, end = (of_token(jax.lax.stop_gradient(x).T, mask, segment_ids) for x in ends)
    return start, end


def probability_mask(
    mask: Array, old_logprobs: Array, *, probability_threshold: float = 0.9
) -> Array:
    """The mask without tokens that the policy was sure of (SPO's, arXiv:2505.23564).

    Args:
        mask: [N, T] bool.
        old_logprobs: [N, T] f32, under the policy that sampled.
        probability_threshold: tokens of a lower probability are kept, in (0, 1].

    Returns:
        [N, T] bool; the mask itself where the whole batch has no such token.

    Raises:
        ValueError: if the threshold lies outside (0, 1].
    """
    _check_threshold(probability_threshold)
    chex.assert_equal_shape([mask, old_logprobs])
    kept = mask & (jnp.exp(jnp.where(mask, old_logprobs, 0.0)) < probability_threshold)
    return jnp.where(kept.any(), kept, mask)


def _check_threshold(probability_threshold: float | None) -> None:
    check_field("probability_threshold", probability_threshold, lambda x: 0 < x <= 1, "in (0, 1]")


def segment_difference(
    start_values: Array,
    end_values: Array,
    mask: Array,
    old_logprobs: Array,
    *,
    probability_threshold: float | None = 0.9,
    whiten_advantages: bool = True,
    whiten_epsilon: float = 1e-8,
) -> Array:
    """A = V(end of the segment) - V(start of the segment) (SPO, arXiv:2505.23564, eq. 3; VinePPO).

    Args:
        start_values: [N, T] f32; NaN where not estimated: the token's advantage is 0.
        end_values: [N, T] f32, likewise.
        mask: [N, T] bool.
        old_logprobs: [N, T] f32, under the policy that sampled.
        probability_threshold: tokens of a higher probability get 0; None for off (VinePPO).
        whiten_advantages: mean 0 and unbiased variance 1 over the tokens of `probability_mask`;
            the others get 0.
        whiten_epsilon: added to the variance that advantages are whitened with.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    _check_threshold(probability_threshold)
    check_field("whiten_epsilon", whiten_epsilon, lambda x: x >= 0, ">= 0")
    chex.assert_rank(mask, 2)
    chex.assert_equal_shape([start_values, end_values, mask, old_logprobs])
    difference = jax.lax.stop_gradient(end_values - start_values)
    advantages = jnp.where(mask & ~jnp.isnan(difference), difference, 0.0)
    counted = mask
    if probability_threshold is not None:
        sure = jnp.exp(jnp.where(mask, old_logprobs, 0.0)) > probability_threshold
        advantages = jnp.where(sure, 0.0, advantages)
        counted = probability_mask(mask, old_logprobs, probability_threshold=probability_threshold)
    return whiten(advantages, counted, epsilon=whiten_epsilon) if whiten_advantages else advantages
