"""Importance weights trainer / sampler, bounded so that one token cannot own the update."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import LOG_RATIO_CLAMP

# What has a weight of its own: a token; a sequence, by the product of its ratios; or a sequence, by
# the geometric mean of its ratios.
LEVELS = ("token", "sequence", "geometric")

# A mean weight below this is not divided by (verl).
SMALLEST_MEAN = 1e-8


class Corrected(NamedTuple):
    """What follows for each token from the difference of sampler and trainer."""

    weights: Array  # [N, T] f32, constant factor of the surrogate; 0 where not kept
    kept: Array  # [N, T] bool, within the mask
    metrics: dict[str, SumCount]


def sampler_log_ratio(old_logprobs: Array, behavior_logprobs: Array, mask: Array) -> Array:
    """Log of trainer / sampler, token by token.

    Args:
        old_logprobs: [N, T] f32, under the sampling parameters, by the trainer.
        behavior_logprobs: [N, T] f32, as the sampler reported them.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, constant. 0 outside the mask, and where the difference is not finite: a sampler
        that reports NaN says nothing, and its token counts as a ratio of 1.
    """
    chex.assert_rank(mask, 2)
    chex.assert_equal_shape([old_logprobs, behavior_logprobs, mask])
    gap = jax.lax.stop_gradient(old_logprobs) - jax.lax.stop_gradient(behavior_logprobs)
    return jnp.where(mask & jnp.isfinite(gap), gap, 0.0)


def none(mask: Array) -> Corrected:
    """No correction: weight 1 on every token of the mask [N, T], no metrics."""
    return Corrected(mask.astype(float), mask, {})


def truncated(
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    *,
    correction_level: str = "token",
    correction_cap: float | None = 2.0,
    correction_floor: float | None = None,
    correction_normalised: bool = False,
) -> Corrected:
    """Truncated importance sampling: w = clip(trainer / sampler, floor, cap).

    The weight is biased, but its variance is bounded. TIS of verl and tunix is the token level with
    cap 2; AReaL's clamp is the token or the geometric level (arXiv:2505.24298, w = pi_prox /
    pi_behavior).

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as a ratio of 1.
        mask: [N, T] bool; the aggregation's weights come from this mask.
        correction_level: "token"; "sequence", the product of a row's ratios; or "geometric", their
            geometric mean.
        correction_cap: highest weight, or None.
        correction_floor: lowest weight, or None.
        correction_normalised: divide by the mean weight of the batch: over tokens at the token
            level, else over rows. Needs the whole batch at once.

    Returns:
        Weights, 0 outside the mask; the whole mask as kept; and metrics over tokens:
        `correction_weight`, and for each bound that is set the share beyond it,
        `correction_share_high` or `correction_share_low`.

    Raises:
        ValueError: for an unknown level, a cap that is not positive, or a floor below 0 or above
            the cap.
    """
    weights, high, low, metrics = _weights(
        old_logprobs, behavior_logprobs, mask, correction_level, correction_cap, correction_floor
    )
    weights = jnp.where(low, 0.0 if correction_floor is None else correction_floor, weights)
    weights = jnp.where(high, 0.0 if correction_cap is None else correction_cap, weights)
    weights = _finish(weights, mask, correction_level, correction_normalised)
    return Corrected(weights, mask, metrics | {"correction_weight": masked(weights, mask)})


def zeroed(
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    *,
    correction_level: str = "token",
    correction_cap: float | None = 5.0,
    correction_floor: float | None = None,
    correction_normalised: bool = False,
) -> Corrected:
    """Importance weights that become 0 beyond the bounds, where `truncated` cuts (IcePop; TRL).

        w = r  if floor <= r <= cap  else 0,     r = trainer / sampler

    IcePop is the token level with floor 0.5 and cap 5, TRL's default the sequence level with cap 3.
    The token level with cap 5 was the default of AReaL; its current code weighs only if it is told.

    Args:
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as a ratio of 1.
        mask: [N, T] bool; the aggregation's weights come from this mask.
        correction_level: see `truncated`.
        correction_cap: highest ratio that is kept, or None.
        correction_floor: lowest ratio that is kept, or None.
        correction_normalised: see `truncated`; zeros count in the mean.

    Returns:
        As in `truncated`, but only what lies within the bounds is kept.

    Raises:
        ValueError: as in `truncated`.
    """
    weights, high, low, metrics = _weights(
        old_logprobs, behavior_logprobs, mask, correction_level, correction_cap, correction_floor
    )
    kept = mask & ~high & ~low
    weights = jnp.where(kept, weights, 0.0)
    weights = _finish(weights, mask, correction_level, correction_normalised)
    return Corrected(weights, kept, metrics | {"correction_weight": masked(weights, mask)})


def _weights(
    old_logprobs: Array,
    behavior_logprobs: Array,
    mask: Array,
    level: str,
    cap: float | None,
    floor: float | None,
) -> tuple[Array, Array, Array, dict[str, SumCount]]:
    """Ratios, where they are above the cap, where below the floor (all [N, T]), and metrics."""
    check_field("correction_level", level, lambda x: x in LEVELS, f"one of {', '.join(LEVELS)}")
    check_field("correction_cap", cap, lambda x: x > 0, "> 0, or None for no cap")
    known_cap = None if isinstance(cap, jax.core.Tracer) else cap
    check_field(
        "correction_floor",
        floor,
        lambda x: x >= 0 and (known_cap is None or x <= known_cap),
        "in [0, correction_cap], or None for no floor",
    )
    log_ratio = sampler_log_ratio(old_logprobs, behavior_logprobs, mask)
    if level != "token":
        log_ratio = log_ratio.sum(axis=-1, keepdims=True)
        if level == "geometric":
            log_ratio = log_ratio / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
        log_ratio = jnp.broadcast_to(log_ratio, mask.shape)
    ratio = jnp.exp(jnp.clip(log_ratio, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP))
    nothing = jnp.zeros_like(mask)
    high = nothing if cap is None else mask & (ratio > cap)
    low = nothing if floor is None else mask & (ratio < floor)
    metrics = {} if cap is None else {"correction_share_high": masked(high, mask)}
    metrics |= {} if floor is None else {"correction_share_low": masked(low, mask)}
    return ratio, high, low, metrics


def _finish(weights: Array, mask: Array, level: str, normalised: bool) -> Array:
    """[N, T] constant, 0 outside the mask; `normalised`: divided by the batch's mean."""
    weights = jnp.where(mask, weights, 0.0)
    if normalised:
        # A row's weight is the same on all of its tokens, so it is their largest.
        each = masked(weights, mask) if level == "token" else _over_rows(weights, mask)
        mean = each.mean()
        divisor = jnp.where(mean > SMALLEST_MEAN, mean, 1.0)
        weights = weights / divisor
    return jax.lax.stop_gradient(weights)


def _over_rows(weights: Array, mask: Array) -> SumCount:
    return masked(weights.max(axis=-1), mask.any(axis=-1))
