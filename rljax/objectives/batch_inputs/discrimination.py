"""What DisCO (arXiv:2505.12366) knows of the whole batch: signed weights of scores, the KL hinge.

The score s of a sample is the mean of log-probabilities or of ratios of its tokens. With the right
samples P and the wrong ones W of prompt q, and Q prompts in the batch, valid or not:

    J = 1/Q sum_q mean_P [ s(o) - tau * log mean_W exp(s(o') / tau) ]     (DisCO)
    J = 1/Q sum_q [ mean_P s - mean_W s ]                                 (DisCO-b, tau -> infinity)

A prompt is valid if it has samples of both kinds. `correct` says which are right, whatever the
scale of rewards.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import token
from rljax.objectives.surrogates.disco import check_disco, old_kl, token_score


class _Contrast(NamedTuple):
    """Rows of a batch and the prompts that they belong to."""

    right: Array  # [N] bool, in a valid prompt
    wrong: Array  # [N] bool, in a valid prompt
    scores: Array  # [N]
    right_in_group: Array  # [N], right rows of the row's own prompt
    wrong_in_group: Array  # [N]
    segment: Array  # [N] i32
    prompts: Array  # [] all prompts of the batch, valid or not


def _contrast(
    current_logprobs: Array,
    old_logprobs: Array,
    correct: Array,
    mask: Array,
    group_ids: Array,
    disco_score: str,
) -> _Contrast:
    check_disco(disco_score)
    chex.assert_equal_shape([current_logprobs, old_logprobs, mask])
    chex.assert_equal_shape([correct, group_ids])
    present, rows = mask.any(axis=-1), mask.shape[0]
    group = group_statistics(jnp.zeros(rows), present, group_ids)
    right, wrong = present & correct, present & ~correct

    def in_group(values: Array) -> Array:
        return jax.ops.segment_sum(values.astype(float), group.segment, rows)[group.segment]

    right_in_group, wrong_in_group = in_group(right), in_group(wrong)
    valid = (right_in_group > 0) & (wrong_in_group > 0)
    log_ratio = token(current_logprobs, old_logprobs, mask)
    each = token_score(log_ratio, jnp.where(mask, current_logprobs, 0.0), disco_score)
    length = jnp.maximum(mask.sum(axis=-1), 1)
    scores = jax.lax.stop_gradient(jnp.where(mask, each, 0.0).sum(axis=-1) / length)
    prompts = jax.ops.segment_sum(present.astype(float), group.segment, rows) > 0
    return _Contrast(
        right & valid,
        wrong & valid,
        scores,
        right_in_group,
        wrong_in_group,
        group.segment,
        prompts.sum().astype(float),
    )


def _log_total(scores: Array, rows: Array, segment: Array) -> Array:
    """log of the sum of exp(scores) over the marked rows of each row's own group, [N]."""
    count = scores.shape[0]
    peak = jax.ops.segment_max(jnp.where(rows, scores, -jnp.inf), segment, count)[segment]
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    terms = jnp.where(rows, jnp.exp(jnp.where(rows, scores - peak, 0.0)), 0.0)
    total = jax.ops.segment_sum(terms, segment, count)[segment]
    return peak + jnp.log(jnp.where(total > 0, total, 1.0))


def score_weights(
    current_logprobs: Array,
    old_logprobs: Array,
    correct: Array,
    mask: Array,
    group_ids: Array,
    *,
    disco_score: str = "log_likelihood",
    disco_temperature: float | None = 10.0,
) -> Array:
    """dJ / d(score of a token): signed, 1 / length and 1 / Q included.

        right: 1 / (Q |P| L),   wrong: -softmax over W of (s / tau) / (Q L)

    In each valid prompt the positive weights add up to 1 / Q, whatever its difficulty.

    Args:
        current_logprobs: [N, T] f32, before the update.
        old_logprobs: [N, T] f32.
        correct: [N] bool.
        mask: [N, T] bool.
        group_ids: [N] i32.
        disco_score: score of a sample: mean log_likelihood of its tokens, or mean ratio.
        disco_temperature: tau: the smaller, the more the likeliest wrong sample counts (10 with
            log_likelihood, 1 with ratio); None weighs wrong samples alike (DisCO-b).

    Returns:
        [N, T] f32, constant; 0 outside the mask and in prompts that are not valid.

    Raises:
        ValueError: for an unknown score or a temperature that is not positive.
    """
    check_field("disco_temperature", disco_temperature, lambda x: x > 0, "> 0, or None")
    rows = _contrast(current_logprobs, old_logprobs, correct, mask, group_ids, disco_score)
    positive = jnp.where(rows.right, 1.0 / jnp.maximum(rows.right_in_group, 1.0), 0.0)
    if disco_temperature is None:
        share = 1.0 / jnp.maximum(rows.wrong_in_group, 1.0)
    else:
        tempered = rows.scores / disco_temperature
        log_share = tempered - _log_total(tempered, rows.wrong, rows.segment)
        share = jnp.exp(jnp.where(rows.wrong, log_share, 0.0))
    of_row = positive - jnp.where(rows.wrong, share, 0.0)
    length = jnp.maximum(mask.sum(axis=-1), 1)
    return jnp.where(mask, (of_row / length / jnp.maximum(rows.prompts, 1.0))[:, None], 0.0)


def kl_pressure(
    current_logprobs: Array,
    old_logprobs: Array,
    mask: Array,
    *,
    hinge_estimator: str = "k1",
    hinge_weight: float = 1e3,
    hinge_margin: float = 1e-4,
) -> Array:
    """Slope of the squared hinge on K, the mean over the batch's tokens of KL(old || policy).

        weight / 2 * max(K - margin, 0)^2 has the gradient weight * max(K - margin, 0) * grad K

    Args:
        current_logprobs: [N, T] f32, before the update.
        old_logprobs: [N, T] f32.
        mask: [N, T] bool.
        hinge_estimator: estimator of KL(old || policy): k1 or k3.
        hinge_weight: beta, factor of the squared hinge.
        hinge_margin: delta, KL per token that is free.

    Returns:
        [N, T] f32, constant: weight * max(K - margin, 0) / tokens on each token, 0 outside the
        mask. Times the token's estimate and summed it is the slope times K.

    Raises:
        ValueError: for an unknown estimator or a negative number.
    """
    check_disco("log_likelihood", hinge_estimator)
    check_field("hinge_weight", hinge_weight, lambda x: x >= 0, ">= 0")
    check_field("hinge_margin", hinge_margin, lambda x: x >= 0, ">= 0")
    log_ratio = jax.lax.stop_gradient(token(current_logprobs, old_logprobs, mask))
    tokens = jnp.maximum(mask.sum(), 1)
    kl = jnp.where(mask, old_kl(log_ratio, hinge_estimator), 0.0).sum() / tokens
    return jnp.where(mask, hinge_weight * jnp.maximum(kl - hinge_margin, 0.0) / tokens, 0.0)
