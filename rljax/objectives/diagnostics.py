"""What a run logs about its updates: weights, ratios, clipping, noise.

A mean is returned as `SumCount`, to be added up over micro-batches. Extremes, quantiles and
quotients of means cannot be added up: those functions return plain scalars and want the whole
batch at once. All are constants; rows and tokens outside the mask may hold anything.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics
from rljax.objectives.corrections.importance import sampler_log_ratio
from rljax.objectives.kl import k1, k2, k3
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import LOG_RATIO_CLAMP


def masked_quantile(values: Array, mask: Array, quantile: float | Array) -> Array:
    """Quantile of the True slots, linear between neighbours (the default of NumPy and PyTorch).

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


def effective_sample_size(weights: Array, mask: Array) -> Array:
    """Share of the tokens that weights of this spread are worth: mean(w)^2 / mean(w^2).

    A plain scalar. 1 for equal weights, 1/n where one of n holds everything.

    Args:
        weights: [N, T] f32, >= 0.
        mask: [N, T] bool.

    Returns:
        [] f32; 0 where all weights are.
    """
    mean, square = masked(weights, mask).mean(), masked(weights**2, mask).mean()
    return jnp.where(square > 0, mean**2 / jnp.where(square > 0, square, 1.0), 0.0)


def chi_squared(log_ratio: Array, mask: Array) -> SumCount:
    """Chi-squared divergence of two policies, mean(ratio^2) - 1 over samples of the second.

    Args:
        log_ratio: [N, T] f32, log of first / second policy.
        mask: [N, T] bool.

    Returns:
        `SumCount` over tokens.
    """
    doubled = jnp.clip(2.0 * log_ratio, -2.0 * LOG_RATIO_CLAMP, 2.0 * LOG_RATIO_CLAMP)
    return masked(jnp.expm1(doubled), mask)


def ratio_spread(
    log_ratio: Array,
    mask: Array,
    *,
    quantiles: tuple[float, ...] = (0.01, 0.5, 0.99),
) -> dict[str, Array]:
    """Extremes and quantiles of exp(log_ratio) over tokens: plain scalars.

    Args:
        log_ratio: [N, T] f32.
        mask: [N, T] bool.
        quantiles: in [0, 1]; named `ratio_q50` for 0.5.

    Returns:
        `ratio_min`, `ratio_max` and the quantiles, [] f32 each; 1 for an all-False mask.

    Raises:
        ValueError: for a quantile outside of [0, 1].
    """
    for quantile in quantiles:
        check_field("quantiles", quantile, lambda x: 0 <= x <= 1, "in [0, 1]")
    log_ratio = jax.lax.stop_gradient(log_ratio)
    ratio = jnp.exp(jnp.where(mask, jnp.clip(log_ratio, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP), 0.0))
    spread = {
        "ratio_min": jnp.where(mask, ratio, jnp.inf).min(),
        "ratio_max": jnp.where(mask, ratio, -jnp.inf).max(),
    }
    spread |= {f"ratio_q{100 * q:g}": masked_quantile(ratio, mask, q) for q in quantiles}
    return {name: jnp.where(mask.any(), value, 1.0) for name, value in spread.items()}


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
        `clip_share_positive_high` and `clip_share_negative_low`, whose gradient clipping drops;
        `clip_share_positive_low` and `clip_share_negative_high`, which moved the wrong way and keep
        it. A single number over all would hide a side.
    """
    ratio = jnp.exp(jnp.where(mask, log_ratio, 0.0))
    shares = {}
    for sign, chosen in {"positive": advantages > 0, "negative": advantages < 0}.items():
        shares[f"clip_share_{sign}_high"] = masked(chosen & (ratio > 1.0 + clip_high), mask)
        shares[f"clip_share_{sign}_low"] = masked(chosen & (ratio < 1.0 - clip_low), mask)
    return shares


class Estimate(NamedTuple):
    """A mean and how far it may be off."""

    mean: Array  # []
    standard_error: Array  # [], NaN with fewer than two sequences


def mean_over_tokens(values: Array, mask: Array) -> Estimate:
    """Mean over tokens, with a standard error over sequences: tokens of a row are not independent.

        R = sum_i y_i / sum_i L_i,    se^2 = n / (n - 1) * sum_i (y_i - R L_i)^2 / (sum_i L_i)^2

    with y_i and L_i sum and number of a row's tokens and n rows (the usual error of a ratio).

    Args:
        values: [N, T] f32.
        mask: [N, T] bool.

    Returns:
        Plain scalars.
    """
    chex.assert_equal_shape([values, mask])
    sums = jnp.where(mask, jax.lax.stop_gradient(values), 0.0).sum(axis=-1)
    lengths = mask.sum(axis=-1).astype(sums.dtype)
    rows, tokens = (lengths > 0).sum(), jnp.maximum(lengths.sum(), 1.0)
    mean = sums.sum() / tokens
    squares = ((sums - mean * lengths) ** 2).sum()
    error = jnp.sqrt(rows / jnp.maximum(rows - 1, 1) * squares) / tokens
    return Estimate(mean, jnp.where(rows > 1, error, jnp.nan))


def kl_estimates(logprobs: Array, other_logprobs: Array, mask: Array) -> dict[str, Estimate]:
    """KL(policy || other) per token by k1, k2 and k3 on samples of the policy, with errors.

    Args:
        logprobs: [N, T] f32.
        other_logprobs: [N, T] f32.
        mask: [N, T] bool.

    Returns:
        "k1", "k2", "k3" -> `Estimate`, plain scalars. k1 and k3 agree within their errors where the
        samples are the policy's own; k2 is biased.
    """
    return {
        name: mean_over_tokens(estimator(logprobs, other_logprobs, mask), mask)
        for name, estimator in {"k1": k1, "k2": k2, "k3": k3}.items()
    }


def sampler_gap(old_logprobs: Array, behavior_logprobs: Array, mask: Array) -> dict[str, SumCount]:
    """How far the sampler's log-probabilities are from the trainer's, means over tokens.

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as no difference.
        mask: [N, T] bool.

    Returns:
        `sampler_gap` mean |log ratio|, `sampler_k1` mean of log sampler - log trainer and
        `sampler_k3` mean of exp(x) - 1 - x, x = log trainer / sampler: both estimate
        KL(sampler || trainer). Also `sampler_unknown`, the share of values that are not finite.
    """
    log_ratio = sampler_log_ratio(old_logprobs, behavior_logprobs, mask)
    return {
        "sampler_gap": masked(jnp.abs(log_ratio), mask),
        "sampler_k1": masked(-log_ratio, mask),
        "sampler_k3": masked(k3(-log_ratio, jnp.zeros_like(log_ratio), mask), mask),
        "sampler_unknown": masked(~jnp.isfinite(behavior_logprobs), mask),
    }


def sampler_gap_max(old_logprobs: Array, behavior_logprobs: Array, mask: Array) -> Array:
    """Largest |log trainer - log sampler| of the batch, a plain scalar; arguments as above."""
    return jnp.abs(sampler_log_ratio(old_logprobs, behavior_logprobs, mask)).max()


class GradientNoise(NamedTuple):
    """What micro-batches say about the gradient, all [] f32; scalars, not means."""

    squared_norm: Array  # of the true gradient, unbiased; may be negative
    covariance_trace: Array  # of the gradient of one sequence, unbiased
    noise_scale: Array  # their quotient in sequences; NaN where squared_norm is not positive


def gradient_noise(
    squared_norms: Array, mean_squared_norm: Array, *, sequences: float
) -> GradientNoise:
    """Gradient noise scale from M micro-batches of b sequences (arXiv:1812.06162, appendix A.1).

        tr S  = b M / (M - 1) * (mean_m |g_m|^2 - |g|^2)
        |G|^2 = (M |g|^2 - mean_m |g_m|^2) / (M - 1)
        B     = tr S / |G|^2

    with g the mean of the g_m. Both are unbiased; their quotient is not: average tr S and |G|^2
    over steps before dividing.

    Args:
        squared_norms: [M] f32, |g_m|^2, each gradient being a mean over its micro-batch.
        mean_squared_norm: [] f32, |g|^2.
        sequences: b.

    Raises:
        ValueError: with fewer than two micro-batches.
    """
    chex.assert_rank(squared_norms, 1)
    m = squared_norms.size
    if m < 2:
        raise ValueError(f"Gradient noise needs at least 2 micro-batches, got {m}.")
    small = squared_norms.mean()
    trace = sequences * m / (m - 1) * (small - mean_squared_norm)
    signal = (m * mean_squared_norm - small) / (m - 1)
    positive = signal > 0
    scale = jnp.where(positive, trace / jnp.where(positive, signal, 1.0), jnp.nan)
    return GradientNoise(signal, trace, scale)


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
    # The factor at drawn = wrong is 0 and settles the product; later ones must not turn it over.
    misses = jnp.maximum(wrong[:, None] - drawn, 0.0) / jnp.maximum(
        group.size[:, None] - drawn, 1.0
    )
    counted = present & (group.size >= k)
    share = jnp.where(counted, 1.0 / jnp.maximum(group.size, 1.0), 0.0)
    return SumCount((share * (1.0 - misses.prod(axis=-1))).sum(), share.sum())


def solved_differences(first: Array, second: Array) -> dict[str, SumCount]:
    """Which problems one model solves and another does not; shares of all problems.

    Args:
        first: [B] bool, solved by the first model (by any of its k samples, say).
        second: [B] bool, the same problems by the second.

    Returns:
        `solved_by_both`, `solved_by_first_only`, `solved_by_second_only`, `solved_by_neither`.
        An equal accuracy can hide large differences both ways.
    """
    chex.assert_equal_shape([first, second])
    first, second = first.astype(bool), second.astype(bool)
    everyone = jnp.ones(first.shape, bool)
    return {
        "solved_by_both": masked(first & second, everyone),
        "solved_by_first_only": masked(first & ~second, everyone),
        "solved_by_second_only": masked(~first & second, everyone),
        "solved_by_neither": masked(~first & ~second, everyone),
    }
