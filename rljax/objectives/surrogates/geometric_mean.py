"""Clip every token's log-ratio, then take the geometric mean of the row."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


def geometric_mean(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    log_clip_low: float = 0.4,
    log_clip_high: float = 0.4,
) -> tuple[Array, dict[str, SumCount]]:
    """Geometric mean of clipped token ratios (GMPO, arXiv:2507.20673).

        loss[n, t] = -A[n] * exp(1 / L[n] * sum_t' x[n, t'])
        x = min(log_ratio, log_clip_high) where A > 0, max(log_ratio, -log_clip_low) where A < 0

    The loss belongs to the row, and every token of the row has its value: aggregated with
    `sequence_mean_token_mean` each row counts once. A[n] is the mean advantage of the row's tokens.

    Args:
        log_ratio: [N, T] f32, the ratio of single tokens (`token`), differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant, the same for all tokens of a row.
        mask: [N, T] bool.
        log_clip_low: clip width of the log-ratio below 0.
        log_clip_high: clip width of the log-ratio above 0.

    Returns:
        [N, T] loss, zero outside the mask, and metrics: `clip_share_low` and `clip_share_high`
        (tokens without gradient), `outside_share_positive` and `outside_share_negative` (tokens
        with A > 0 or A < 0 beyond either width; verl's clip fractions) and `ratio_mean` of rows.

    Raises:
        ValueError: if a clip width is negative.
    """
    for name, width in {"log_clip_low": log_clip_low, "log_clip_high": log_clip_high}.items():
        check_field(name, width, lambda x: x >= 0, ">= 0")
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    low = (advantages < 0) & (log_ratio < -log_clip_low)
    high = (advantages > 0) & (log_ratio > log_clip_high)
    kept = jnp.where(low, -log_clip_low, jnp.where(high, log_clip_high, log_ratio))
    length = jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    ratio = jnp.exp(kept.sum(axis=-1, keepdims=True) / length)
    advantage = advantages.sum(axis=-1, keepdims=True) / length
    outside = (log_ratio < -log_clip_low) | (log_ratio > log_clip_high)
    metrics = {
        "clip_share_low": masked(low, mask),
        "clip_share_high": masked(high, mask),
        "outside_share_positive": masked(outside & (advantages > 0), mask),
        "outside_share_negative": masked(outside & (advantages < 0), mask),
        "ratio_mean": masked(jnp.broadcast_to(ratio, mask.shape), mask),
    }
    return jnp.where(mask, -advantage * ratio, 0.0), metrics
