"""PPO's clipped surrogate, with the dual clip, TRL's cap or a KL to the old policy."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array

from rljax.objectives.kl import k3
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


class ClipSides(NamedTuple):
    """Tokens that are stopped, and where: all bool [N, T], no token in two of them."""

    low: Array  # A < 0, below the lower edge
    high: Array  # A > 0, above the upper edge
    dual: Array  # A < 0, above the dual clip


def check_clips(clip_low: float, clip_high: float, dual_clip: float | None = None) -> None:
    """Raises ValueError for a negative clip width or a dual clip that is not above 1."""
    for name, width in {"clip_low": clip_low, "clip_high": clip_high}.items():
        check_field(name, width, lambda x: x >= 0, ">= 0")
    check_field("dual_clip", dual_clip, lambda x: x > 1, "> 1, or None to switch it off")


def clip_sides(
    ratio: Array,
    advantages: Array,
    mask: Array,
    lower: Array | float,
    upper: Array | float,
    dual_clip: float | None = None,
) -> ClipSides:
    """Which tokens the pessimistic clip stops.

    Args:
        ratio: [N, T] f32.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        lower: [] or [N, T] f32, lower edge of the ratio (1 - width).
        upper: [] or [N, T] f32, upper edge.
        dual_clip: edge of the ratio where A < 0, or None.
    """
    low = mask & (advantages < 0) & (ratio < lower)
    high = mask & (advantages > 0) & (ratio > upper)
    if dual_clip is None:
        return ClipSides(low, high, jnp.zeros_like(mask))
    return ClipSides(low, high, mask & (advantages < 0) & (ratio > dual_clip))


def pessimistic(
    ratio: Array,
    advantages: Array,
    mask: Array,
    lower: Array | float,
    upper: Array | float,
    dual_clip: float | None = None,
) -> tuple[Array, dict[str, SumCount]]:
    """Loss max(-r * A, -clip(r, lower, upper) * A), with the dual clip where A < 0, and shares.

    Arguments as in `clip_sides`; all zero outside the mask, advantages without gradient.
    """
    sides = clip_sides(ratio, advantages, mask, lower, upper, dual_clip)
    # Written as a choice instead of max and min: their gradient at a tie would be split.
    kept = jnp.where(sides.low, lower, jnp.where(sides.high, upper, ratio))
    metrics = {
        "clip_share_low": masked(sides.low, mask),
        "clip_share_high": masked(sides.high, mask),
        "ratio_mean": masked(ratio, mask),
    }
    if dual_clip is not None:
        kept = jnp.where(sides.dual, dual_clip, kept)
        metrics["dual_clip_share"] = masked(sides.dual, mask)
    return -advantages * kept, metrics


def clipped_tokens(
    log_ratio: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Array:
    """Which tokens' gradient the clipped surrogate drops.

    A token is dropped when its ratio is already far enough in the direction of its advantage:
    A > 0 and ratio > 1 + clip_high, or A < 0 and ratio < 1 - clip_low. With `dual_clip` also A < 0
    and ratio > dual_clip. At ratio 0.5 with A = -1 the gradient is 0, at ratio 2 with A = -1 it is
    not.

    Args:
        log_ratio: [N, T] f32, log of policy / denominator.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1.
        dual_clip: cap on the ratio where A < 0, or None.

    Returns:
        [N, T] bool, False outside the mask.

    Raises:
        ValueError: if a clip width is negative or `dual_clip` is not above 1.
    """
    chex.assert_equal_shape([log_ratio, advantages, mask])
    check_clips(clip_low, clip_high, dual_clip)
    ratio = jnp.exp(jnp.where(mask, log_ratio, 0.0))
    sides = clip_sides(ratio, advantages, mask, 1.0 - clip_low, 1.0 + clip_high, dual_clip)
    return sides.low | sides.high | sides.dual


def clipped(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> tuple[Array, dict[str, SumCount]]:
    """Pessimistic clipped loss (PPO, arXiv:1707.06347, eq. 7; dual clip: arXiv:1912.09729).

        loss = max(-r * A, -clip(r, 1 - clip_low, 1 + clip_high) * A),   r = exp(log_ratio)
        where A < 0, with dual_clip:  loss = min(loss, -dual_clip * A)

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1; larger than `clip_low` is DAPO's clip-higher.
        dual_clip: cap on the ratio where A < 0 (3 in verl, 10 in the DAPO script), None for off.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `clip_share_low` (A < 0, stopped below
        1 - clip_low), `clip_share_high` (A > 0, stopped above 1 + clip_high), `ratio_mean` and,
        with `dual_clip`, `dual_clip_share`; all are shares of the tokens inside the mask.

    Raises:
        ValueError: if a clip width is negative or `dual_clip` is not above 1.
    """
    check_clips(clip_low, clip_high, dual_clip)
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    ratio = jnp.exp(log_ratio)
    return pessimistic(ratio, advantages, mask, 1.0 - clip_low, 1.0 + clip_high, dual_clip)


def clipped_old_kl(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    old_kl_weight: float = 0.01,
) -> tuple[Array, dict[str, SumCount]]:
    """Clipped loss with a KL to the policy of the step's start (TraceRL, arXiv:2509.06949).

        loss = max(-r * A, -clip(r, 1 - clip_low, 1 + clip_high) * A) + old_kl_weight * k3
        k3 = 1 / r - 1 + log r

    The KL has no gradient where the policy has not moved: it acts from the second update on.

    In the authors' code advantages are divided by the population deviation, and 0 where it is 0;
    the method `tracerl` has that of `group_zscore`, unbiased and with an epsilon. Their scripts
    drop prompts of which less than 0.2 or more than 0.8 of the samples are right, and count an
    answer within 5 tokens of the limit as wrong; `tracerl` filters nothing.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1.
        old_kl_weight: factor of the KL.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics of `clipped`, and `old_kl`.

    Raises:
        ValueError: if a clip width or the factor is negative.
    """
    check_field("old_kl_weight", old_kl_weight, lambda x: x >= 0, ">= 0")
    loss, metrics = clipped(
        log_ratio, logprobs, advantages, mask, clip_low=clip_low, clip_high=clip_high
    )
    distance = k3(log_ratio, jnp.zeros_like(log_ratio), mask)
    return loss + old_kl_weight * distance, metrics | {"old_kl": masked(distance, mask)}


def clipped_capped(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ratio_cap: float = 3.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Two-sided clipping as in TRL (`delta`; INTELLECT-2, arXiv:2505.07291).

        loss = max(-min(r, ratio_cap) * A, -clip(r, 1 - clip_low, 1 + clip_high) * A)

    With `ratio_cap` >= 1 + clip_high it is the dual clip. A smaller cap also lowers the upper edge
    where A > 0, and where A < 0 the loss stops at 1 + clip_high.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1.
        ratio_cap: cap on the ratio that is not clipped.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics of `clipped` with a dual clip.

    Raises:
        ValueError: if a clip width is negative or `ratio_cap` is not positive.
    """
    check_clips(clip_low, clip_high)
    check_field("ratio_cap", ratio_cap, lambda x: x > 0, "> 0")
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    ratio, edge = jnp.exp(log_ratio), 1.0 + clip_high
    upper, dual = jnp.minimum(edge, ratio_cap), jnp.maximum(edge, ratio_cap)
    return pessimistic(ratio, advantages, mask, 1.0 - clip_low, upper, dual)
