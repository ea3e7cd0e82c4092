"""Rewards that only what satisfies all constraints may earn (CGPO, arXiv:2409.20370).

A reward model is hacked where it pays for what it should not; a constraint judge says of a sample
whether it may be paid at all. Rewards are calibrated against a base answer of the same prompt:

    R_cal = sigmoid(score - base score)                 in (0, 1), 1/2 where it is as good as that

The base answer is the greedy one of the stage's start; a constant that is added to all scores
changes nothing.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_max,
    group_statistics,
    scores_of,
)
from rljax.objectives.means import mean_of
from rljax.objectives.parts import check_field
from rljax.objectives.sequences import sequence_logprobs


def calibrated_constrained(
    token_rewards: Array,
    mask: Array,
    satisfied: Array,
    base_scores: Array,
    old_logprobs: Array,
    ref_logprobs: Array,
    *,
    kl_limit: float = 10.0,
    kl_factor_limit: float | None = None,
) -> Array:
    """CRPG: A = R - mean of R over the batch, of constrained and regularised rewards.

        R = min(max(1 - log(pi / pi_ref) / kl_limit, 0), kl_factor_limit) * R_cal * satisfied

    log(pi / pi_ref) is the sum over the sample's tokens. Centring makes the 0 of a violator a
    negative advantage. The paper's KL_max was not seen, and it has no limit of the factor: of a
    sample that is likelier under the reference it grows without a bound.

    Args:
        token_rewards: [N, T] f32; a sample's score is their sum.
        mask: [N, T] bool.
        satisfied: [N] bool, all constraints are satisfied.
        base_scores: [N] f32, of the base answer; a row without one, NaN, is in no mean and gets 0.
        old_logprobs: [N, T] f32.
        ref_logprobs: [N, T] f32.
        kl_limit: log-ratio of a whole sample from which it earns nothing, > 0.
        kl_factor_limit: largest factor of the KL; None: without a limit, as printed.

    Returns:
        [N, T] f32, constant, zero outside the mask; their sum over the rows of the batch is 0.

    Raises:
        ValueError: unless both limits are positive.
    """
    _check_limits(kl_limit, kl_factor_limit)
    scores, present = scores_of(token_rewards, mask)
    present &= jnp.isfinite(base_scores)
    calibrated = calibrate(scores, base_scores)
    log_ratio = sequence_log_ratio(old_logprobs, ref_logprobs, mask)
    factor = jnp.maximum(1.0 - log_ratio / kl_limit, 0.0)
    if kl_factor_limit is not None:
        factor = jnp.minimum(factor, kl_factor_limit)
    rewards = jnp.where(present & satisfied, factor * calibrated, 0.0)
    return broadcast(jnp.where(present, rewards - mean_of(rewards, present), 0.0), mask)


def best_constrained(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    satisfied: Array,
    base_scores: Array,
    old_logprobs: Array,
    ref_logprobs: Array,
    *,
    kl_limit: float = 10.0,
) -> Array:
    """CRRAFT: the likelihood of each prompt's best sample that may be paid, weighted by R_cal.

    Of the samples that satisfy all constraints and whose log-ratio to the reference is at most
    `kl_limit`, the one with the highest score has the advantage n R_cal, with n the samples of its
    prompt; all others have 0. So "sequence_mean_token_sum" is the mean over prompts of
    -R_cal log pi(best). A prompt with no such sample is passed over; the paper would learn the base
    answer there, if that satisfies the constraints.

    Args:
        token_rewards: [N, T] f32; a sample's score is their sum.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        satisfied: [N] bool, all constraints are satisfied.
        base_scores: [N] f32, of the base answer; rows without one, NaN, are never chosen.
        old_logprobs: [N, T] f32.
        ref_logprobs: [N, T] f32.
        kl_limit: log-ratio of a whole sample up to which it is learned, > 0.

    Returns:
        [N, T] f32, constant, >= 0, zero outside the mask.

    Raises:
        ValueError: unless the limit is positive.
    """
    _check_limits(kl_limit, None)
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    log_ratio = sequence_log_ratio(old_logprobs, ref_logprobs, mask)
    allowed = present & satisfied & jnp.isfinite(base_scores) & (log_ratio <= kl_limit)
    best = first_best(scores, allowed, group.segment)
    weights = group.size * calibrate(scores, base_scores)
    return broadcast(jnp.where(best, weights, 0.0), mask)


def calibrate(scores: Array, base_scores: Array) -> Array:
    """sigmoid(score - base score), [N]."""
    return jax.nn.sigmoid(scores - base_scores)


def sequence_log_ratio(old_logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """log(pi / pi_ref) of whole samples, [N]."""
    return sequence_logprobs(old_logprobs, mask) - sequence_logprobs(ref_logprobs, mask)


def first_best(scores: Array, allowed: Array, segment: Array) -> Array:
    """The first of each group's allowed rows with the highest score, [N] bool."""
    highest = group_max(jnp.where(allowed, scores, -jnp.inf), segment)
    best = allowed & (scores == highest)
    rows = jnp.arange(len(scores))
    first = -group_max(jnp.where(best, -rows, -len(scores)), segment)
    return best & (rows == first)


def _check_limits(kl_limit: float, kl_factor_limit: float | None) -> None:
    check_field("kl_limit", kl_limit, lambda x: x > 0, "> 0")
    check_field("kl_factor_limit", kl_factor_limit, lambda x: x > 0, "> 0, or None")
