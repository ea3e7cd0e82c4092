"""PPO's clipped surrogate."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field


def _clip_sides(
    log_ratio: Array,
    advantages: Array,
    mask: Array,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> tuple[Array, Array, Array]:
    """Tokens stopped at the lower edge, at the upper edge and at the dual clip, bool [N, T]."""
    for name, width in {"clip_low": clip_low, "clip_high": clip_high}.items():
        check_field(name, width, lambda x: x >= 0, ">= 0")
    check_field("dual_clip", dual_clip, lambda x: x > 1, "> 1, or None to switch it off")
    ratio = jnp.exp(log_ratio)
    low = mask & (advantages < 0) & (ratio < 1.0 - clip_low)
    high = mask & (advantages > 0) & (ratio > 1.0 + clip_high)
    if dual_clip is None:
        return low, high, jnp.zeros_like(mask)
    return low, high, mask & (advantages < 0) & (ratio > dual_clip)


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

    A token is dropped when it has already moved far enough in the direction that its advantage
    asks for: A > 0 and ratio > 1 + clip_high, or A < 0 and ratio < 1 - clip_low. With `dual_clip`
    also A < 0 and ratio > dual_clip. At ratio 0.5 with A = -1 the gradient is 0, at ratio 2 with
    A = -1 it is not.

    Args:
        log_ratio: [N, T] f32, log of policy / denominator.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        clip_low: clip width below 1.
        clip_high: clip width above 1.
        dual_clip: cap on the ratio where A < 0, or None.

    Returns:
        [N, T] bool, False outside the mask.

    Raises:
        ValueError: if a clip width is negative or `dual_clip` is not above 1.
    """
    chex.assert_equal_shape([log_ratio, advantages, mask])
    low, high, dual = _clip_sides(log_ratio, advantages, mask, clip_low, clip_high, dual_clip)
    return low | high | dual


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
        clip_low: clip width below 1.
        clip_high: clip width above 1; larger than `clip_low` is DAPO's clip-higher.
        dual_clip: cap on the ratio where A < 0 (3 in verl, 10 in the DAPO script), None for off.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `clip_share_low` (A < 0, stopped below
        1 - clip_low), `clip_share_high` (A > 0, stopped above 1 + clip_high), `ratio_mean` and,
        with `dual_clip`, `dual_clip_share`; shares are of masked-in tokens.

    Raises:
        ValueError: if a clip width is negative or `dual_clip` is not above 1.
    """
    chex.assert_equal_shape([log_ratio, logprobs, advantages, mask])
    advantages = jnp.where(mask, jax.lax.stop_gradient(advantages), 0.0)
    log_ratio = jnp.where(mask, log_ratio, 0.0)
    low, high, dual = _clip_sides(log_ratio, advantages, mask, clip_low, clip_high, dual_clip)
    ratio = jnp.exp(log_ratio)
    # Written as a choice instead of max and min: their gradient at a tie would be split.
    kept = jnp.where(low, 1.0 - clip_low, jnp.where(high, 1.0 + clip_high, ratio))
    metrics = {
        "clip_share_low": masked(low, mask),
        "clip_share_high": masked(high, mask),
        "ratio_mean": masked(ratio, mask),
    }
    if dual_clip is not None:
        kept = jnp.where(dual, dual_clip, kept)
        metrics["dual_clip_share"] = masked(dual, mask)
    return -advantages * kept, metrics
