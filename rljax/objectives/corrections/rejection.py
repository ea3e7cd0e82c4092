"""Tokens and sequences on which sampler and trainer differ too much to be trained on.

Statistics of the log-ratio x = log trainer - log sampler, and what their bounds are bounds of:

| statistic | value for a token | the bounds are |
| --- | --- | --- |
| `ratio` | x | of trainer / sampler = exp(x), compared in log space (AReaL) |
| `k1` | -x | of sampler / trainer = exp(-x), compared in log space (verl) |
| `k2` | x^2 / 2 | of the statistic itself |
| `k3` | exp(x) - 1 - x | of the statistic itself; its mean estimates KL(sampler || trainer) |
| `k3_reverse` | exp(-x) - 1 + x | of the statistic itself: k3 with the two exchanged |

verl's k3 is `k3`, AReaL's kl_k3 is `k3_reverse`. They agree to second order in x. `k3` grows
fastest with tokens that the trainer likes better than the sampler, `k3_reverse` with those that it
likes less; samples come from the sampler, so that its mean over them is no KL divergence.

Each part returns weights that are 1 on what is kept and 0 elsewhere. The aggregation's weights come
from the mask before the rejection.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.corrections.importance import Corrected, sampler_log_ratio
from rljax.objectives.metrics import masked
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import LOG_RATIO_CLAMP

STATISTICS = ("ratio", "k1", "k2", "k3", "k3_reverse")
REDUCTIONS = ("sum", "mean", "max")


def keep_all(mask: Array) -> Corrected:
    """Nothing is rejected: weight 1 on every token of the mask [N, T], no metrics."""
    return Corrected(mask.astype(float), mask, {})


def tokens(
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    *,
    reject_token_statistic: str = "k1",
    reject_token_low: float | None = 0.5,
    reject_token_high: float | None = 2.0,
) -> Corrected:
    """Masked importance sampling: a token outside the bounds is not trained on.

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as a ratio of 1.
        mask: [N, T] bool; the aggregation's weights come from this mask, not from what is kept.
        reject_token_statistic: one of `STATISTICS`; the head of this file explains them.
        reject_token_low: lowest value that is kept, or None; 0 is right for k2 and both k3.
        reject_token_high: highest value that is kept, or None.

    Returns:
        What is kept, and the metrics `rejected_share` (of tokens) and `rejected_sequence_share`
        (rows with nothing left).

    Raises:
        ValueError: for an unknown statistic, a negative bound, or bounds that cross.
    """
    _check("token", reject_token_statistic, reject_token_low, reject_token_high)
    log_ratio = sampler_log_ratio(old_logprobs, behavior_logprobs, mask)
    values = _statistic(log_ratio, reject_token_statistic)
    inside = _inside(values, reject_token_statistic, reject_token_low, reject_token_high)
    return _finish(inside, mask)


def sequences(
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    *,
    reject_sequence_statistic: str = "k1",
    reject_sequence_reduction: str = "sum",
    reject_sequence_low: float | None = 0.5,
    reject_sequence_high: float | None = 2.0,
) -> Corrected:
    """A sequence outside the bounds is not trained on: none of its tokens.

    With k1, "sum" bounds the ratio of the whole sequence (the rejection of sequence MIS). "mean"
    bounds the geometric mean of its ratios (Geo-RS), which does not grow with the length.

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as a ratio of 1.
        mask: [N, T] bool; the aggregation's weights come from this mask, not from what is kept.
        reject_sequence_statistic: one of `STATISTICS`, of each token.
        reject_sequence_reduction: "sum", "mean" or "max" over the row's tokens.
        reject_sequence_low: lowest value that is kept, or None; 0 is right for k2 and both k3.
        reject_sequence_high: highest value that is kept, or None.

    Returns:
        As in `tokens`.

    Raises:
        ValueError: for an unknown statistic or reduction, a negative bound, or bounds that cross.
    """
    statistic, reduction = reject_sequence_statistic, reject_sequence_reduction
    _check("sequence", statistic, reject_sequence_low, reject_sequence_high)
    allowed = f"one of {', '.join(REDUCTIONS)}"
    check_field("reject_sequence_reduction", reduction, lambda x: x in REDUCTIONS, allowed)
    values = _statistic(sampler_log_ratio(old_logprobs, behavior_logprobs, mask), statistic)
    if reduction == "max":
        row = jnp.where(mask, values, -jnp.inf).max(axis=-1, keepdims=True)
    else:
        row = jnp.where(mask, values, 0.0).sum(axis=-1, keepdims=True)
        if reduction == "mean":
            row = row / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    inside = _inside(row, statistic, reject_sequence_low, reject_sequence_high)
    return _finish(jnp.broadcast_to(inside, mask.shape), mask)


def tokens_and_sequences(
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    *,
    reject_token_statistic: str = "k1",
    reject_token_low: float | None = 0.5,
    reject_token_high: float | None = 2.0,
    reject_sequence_statistic: str = "k3",
    reject_sequence_reduction: str = "mean",
    reject_sequence_low: float | None = None,
    reject_sequence_high: float | None = 0.2,
) -> Corrected:
    """Keeps what both `tokens` and `sequences` keep, each of them judged on the whole mask.

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32.
        mask: [N, T] bool.
        reject_token_statistic: see `tokens`.
        reject_token_low: see `tokens`.
        reject_token_high: see `tokens`.
        reject_sequence_statistic: see `sequences`.
        reject_sequence_reduction: see `sequences`.
        reject_sequence_low: see `sequences`.
        reject_sequence_high: see `sequences`.

    Returns:
        As in `tokens`.
    """
    first = tokens(
        old_logprobs,
        behavior_logprobs,
        mask,
        reject_token_statistic=reject_token_statistic,
        reject_token_low=reject_token_low,
        reject_token_high=reject_token_high,
    )
    second = sequences(
        old_logprobs,
        behavior_logprobs,
        mask,
        reject_sequence_statistic=reject_sequence_statistic,
        reject_sequence_reduction=reject_sequence_reduction,
        reject_sequence_low=reject_sequence_low,
        reject_sequence_high=reject_sequence_high,
    )
    return _finish(first.kept & second.kept, mask)


def _check(level: str, statistic: str, low: float | None, high: float | None) -> None:
    allowed = f"one of {', '.join(STATISTICS)}"
    check_field(f"reject_{level}_statistic", statistic, lambda x: x in STATISTICS, allowed)
    known = None if isinstance(high, jax.core.Tracer) else high
    check_field(
        f"reject_{level}_low",
        low,
        lambda x: x >= 0 and (known is None or x <= known),
        f"in [0, reject_{level}_high], or None for no bound",
    )
    check_field(f"reject_{level}_high", high, lambda x: x > 0, "> 0, or None for no bound")


def _statistic(log_ratio: Array, name: str) -> Array:
    if name == "ratio":
        return log_ratio
    if name == "k1":
        return -log_ratio
    if name == "k2":
        return 0.5 * log_ratio**2
    exponent = -log_ratio if name == "k3_reverse" else log_ratio
    exponent = jnp.clip(exponent, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP)
    # expm1 keeps the digits of a small x, where exp(x) - 1 would cancel.
    return jnp.expm1(exponent) - exponent


def _inside(values: Array, statistic: str, low: float | None, high: float | None) -> Array:
    of_ratio = statistic in ("ratio", "k1")
    inside = jnp.ones(values.shape, bool)
    if low is not None:
        inside &= values >= (jnp.log(low) if of_ratio else low)
    if high is not None:
        inside &= values <= (jnp.log(high) if of_ratio else high)
    return inside


def _finish(inside: Array, mask: Array) -> Corrected:
    kept = mask & inside
    metrics = {
        "rejected_share": masked(~inside, mask),
        "rejected_sequence_share": masked(~kept.any(axis=-1), mask.any(axis=-1)),
    }
    return Corrected(kept.astype(float), kept, metrics)
