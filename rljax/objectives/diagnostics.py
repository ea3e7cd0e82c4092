"""What a run logs about its updates: weights, ratios, clipping, noise.

What can be logged for every update is returned as sums (objectives/metrics.py), to be added up over
micro-batches, devices and updates. Functions that return plain scalars need the whole batch at
once. All results are constants; rows and tokens outside the mask may hold anything.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics
from rljax.objectives.corrections.importance import sampler_log_ratio
from rljax.objectives.kl import k1, k2, k3
from rljax.objectives.metrics import (
    GapCounts,
    GradientNoise,
    Metric,
    RatioCounts,
    RowSums,
    SumCount,
    WeightSums,
    bin_counts,
    masked,
    row_sums,
)
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import LOG_RATIO_CLAMP


def policy_diagnostics(
    logprobs: Array,
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    ref_logprobs: Array | None = None,
) -> dict[str, Metric]:
    """What every policy-gradient method logs about its policies, whatever its loss is.

    Args:
        logprobs: [N, T] f32, under the policy that is updated.
        old_logprobs: [N, T] f32, under the policy that the step started from, by the trainer.
        behavior_logprobs: [N, T] f32, as the sampler reported them.
        mask: [N, T] bool.
        ref_logprobs: [N, T] f32, under the reference, where there is one.

    Returns:
        Sums by name; in brackets the names of the numbers that they become.
        - `ratio` (`ratio_min`, `ratio_q1`, ..., `ratio_max`): policy / old policy, token by token.
        - `effective_sample_size`: from the weights policy / sampler, token by token.
        - `old_policy_kl_k1`, `_k2`, `_k3` (and `_error` each): KL(old policy || policy), on samples
          of the old policy.
        - `sampler_trainer_gap` and the other sums of `sampler_gap`.
        - with a reference `kl_to_start_k1`, `_k2`, `_k3` (and `_error` each): KL(policy ||
          reference), on samples of the old policy, which are the policy's own in a step's first
          update; and `kl_to_start`, the same as `kl_to_start_k3`.
    """
    log_ratio = jnp.where(mask, logprobs - old_logprobs, 0.0)
    metrics = {
        "ratio": RatioCounts(bin_counts(log_ratio, mask)),
        "effective_sample_size": weight_sums(
            jnp.exp(_clamped(sampler_log_ratio(logprobs, behavior_logprobs, mask))), mask
        ),
        **_prefixed("old_policy_kl", kl_sums(old_logprobs, logprobs, mask)),
        **sampler_gap(old_logprobs, behavior_logprobs, mask),
    }
    if ref_logprobs is not None:
        sums = kl_sums(logprobs, ref_logprobs, mask)
        metrics |= _prefixed("kl_to_start", sums)
        metrics["kl_to_start"] = SumCount(sums["k3"].total, sums["k3"].count)
    return metrics


def _prefixed(prefix: str, metrics: dict[str, Metric]) -> dict[str, Metric]:
    return {f"{prefix}_{name}": metric for name, metric in metrics.items()}


def _clamped(log_ratio: Array) -> Array:
    return jnp.clip(log_ratio, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP)


def masked_quantile(values: Array, mask: Array, quantile: float | Array) -> Array:
    """A quantile of the True slots, linear between neighbours (the default of NumPy and PyTorch).

    Args:
        values: [...] f32.
        mask: [...] bool, the same shape.
        quantile: [] in [0, 1].

    Returns:
        [] f32; 0 for an all-False mask.
    """
    chex.assert_equal_shape([values, mask])
    ordered = jnp.sort(jnp.where(mask, jax.lax.stop_gradient(values), jnp.inf).reshape(-1))
    place = quantile * jnp.maximum(mask.sum() - 1, 0)
    below = jnp.floor(place).astype(int)
    above = jnp.ceil(place).astype(int)
    # Equal neighbours are not interpolated: inf - inf would be NaN.
    step = jnp.where(above > below, ordered[above] - ordered[below], 0.0)
    return jnp.where(mask.any(), ordered[below] + (place - below) * step, 0.0)


def weight_sums(weights: Array, mask: Array) -> WeightSums:
    """Sums of weights and of their squares, for an effective sample size.

    Args:
        weights: [N, T] f32, >= 0.
        mask: [N, T] bool.
    """
    first, second = masked(weights, mask), masked(weights**2, mask)
    return WeightSums(first.total, second.total, first.count)


def effective_sample_size(weights: Array, mask: Array) -> Array:
    """The share of the tokens that are left, in effect, by these weights: mean(w)^2 / mean(w^2).

    A plain scalar: 1 for equal weights, 1/n where one of n weights is all.

    Args:
        weights: [N, T] f32, >= 0.
        mask: [N, T] bool.

    Returns:
        [] f32; 0 where all weights are.
    """
    return weight_sums(weights, mask).share()


def clip_shares(
    log_ratio: Array, advantages: Array, mask: Array, *, clip_low: float, clip_high: float
) -> dict[str, SumCount]:
    """Tokens outside the clip range by the sign of their advantage, shares of all tokens.

    Args:
        log_ratio: [N, T] f32.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        clip_low: clip width below 1.
        clip_high: clip width above 1.

    Returns:
        `clip_share_positive_high` and `clip_share_negative_low`: clipping drops the gradient of
        these tokens. `clip_share_positive_low` and `clip_share_negative_high`: these have changed
        in the wrong direction and keep their gradient.
    """
    ratio = jnp.exp(jnp.where(mask, log_ratio, 0.0))
    shares = {}
    for sign, chosen in {"positive": advantages > 0, "negative": advantages < 0}.items():
        shares[f"clip_share_{sign}_high"] = masked(chosen & (ratio > 1.0 + clip_high), mask)
        shares[f"clip_share_{sign}_low"] = masked(chosen & (ratio < 1.0 - clip_low), mask)
    return shares


def kl_sums(logprobs: Array, other_logprobs: Array, mask: Array) -> dict[str, RowSums]:
    """KL(policy || other) per token by k1, k2 and k3 on samples of the policy, with errors.

    Args:
        logprobs: [N, T] f32.
        other_logprobs: [N, T] f32.
        mask: [N, T] bool.

    Returns:
        "k1", "k2", "k3" -> sums. k1 and k3 agree within their errors where the samples are the
        policy's own; k2 is biased.
    """
    return {
        name: row_sums(estimator(logprobs, other_logprobs, mask), mask)
        for name, estimator in {"k1": k1, "k2": k2, "k3": k3}.items()
    }


def sampler_gap(old_logprobs: Array, behavior_logprobs: Array, mask: Array) -> dict[str, Metric]:
    """How far the sampler's log-probabilities are from the trainer's, over tokens.

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as no difference.
        mask: [N, T] bool.

    Returns:
        `sampler_trainer_gap` mean |log ratio|, `sampler_trainer_k1` mean of log sampler - log
        trainer and `sampler_trainer_k3` mean of exp(x) - 1 - x, x = log trainer / sampler: both
        estimate KL(sampler || trainer). `sampler_unknown`, the share of values that are not finite.
        And `sampler_trainer`, which becomes `sampler_trainer_gap_max` and `_gap_q99`.
    """
    log_ratio = sampler_log_ratio(old_logprobs, behavior_logprobs, mask)
    return {
        "sampler_trainer_gap": masked(jnp.abs(log_ratio), mask),
        "sampler_trainer": GapCounts(bin_counts(jnp.abs(log_ratio), mask)),
        "sampler_trainer_k1": masked(-log_ratio, mask),
        "sampler_trainer_k3": masked(k3(-log_ratio, jnp.zeros_like(log_ratio), mask), mask),
        "sampler_unknown": masked(~jnp.isfinite(behavior_logprobs), mask),
    }


def gradient_noise(
    total_squares: Array, mean_squared_norm: Array, *, micro_batches: int, sequences: float
) -> GradientNoise:
    """Gradient noise scale from M micro-batches of b sequences (arXiv:1812.06162, appendix A.1).

        tr S  = b M / (M - 1) * (mean_m |g_m|^2 - |g|^2)
        |G|^2 = (M |g|^2 - mean_m |g_m|^2) / (M - 1)
        B     = tr S / |G|^2

    with g the mean of the g_m.

    Args:
        total_squares: [] f32, sum_m |g_m / M|^2: each micro-batch's share of the whole gradient.
        mean_squared_norm: [] f32, |g|^2.
        micro_batches: M.
        sequences: b.

    Raises:
        ValueError: with fewer than two micro-batches.
    """
    m = micro_batches
    if m < 2:
        raise ValueError(f"Gradient noise needs at least 2 micro-batches, got {m}.")
    small = m * total_squares
    trace = sequences * m / (m - 1) * (small - mean_squared_norm)
    signal = (m * mean_squared_norm - small) / (m - 1)
    return GradientNoise(signal, trace, jnp.ones_like(signal))


def pass_at_k(correct: Array, group_ids: Array, mask: Array, *, k: int) -> SumCount:
    """Probability that k samples of a prompt hold a right one: 1 - C(n - c, k) / C(n, k).

    The unbiased estimate of arXiv:2107.03374, eq. 1, for each group of n rows with c right ones.

    Args:
        correct: [N] bool.
        group_ids: [N] i32.
        mask: [N, T] bool; rows without True are not there.
        k: size of the draw.

    Returns:
        `SumCount` over groups with at least k rows.

    Raises:
        ValueError: if `k` is not positive.
    """
    check_field("k", k, lambda x: x >= 1, "a positive number of samples")
    present = mask.any(axis=-1)
    group = group_statistics(correct.astype(float), present, group_ids)
    wrong = jnp.round(group.size * (1.0 - group.mean))
    drawn = jnp.arange(k)
    # The factor at drawn = wrong is 0 and makes the product 0; later factors are kept from below 0.
    misses = jnp.maximum(wrong[:, None] - drawn, 0.0) / jnp.maximum(
        group.size[:, None] - drawn, 1.0
    )
    counted = present & (group.size >= k)
    share = jnp.where(counted, 1.0 / jnp.maximum(group.size, 1.0), 0.0)
    return SumCount((share * (1.0 - misses.prod(axis=-1))).sum(), share.sum())
