"""Clip ranges and advantages that depend on the entropy of each token."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.clipped import check_clips, pessimistic
from rljax.objectives.surrogates.inputs import cleaned


def adaptive_clip(
    entropy_level: Array, *, clip_low: float, clip_high: float, entropy_clip: float
) -> tuple[Array, Array]:
    """Clip widths that depend on entropy (HAPO, arXiv:2509.16591, part D).

        low = clip_low * (1 - entropy_clip * h)   where h <= 0, else clip_low
        high = clip_high * (1 + entropy_clip * h) where h > 0,  else clip_high

    A token of low entropy may fall further, a token of high entropy may rise further.

    Args:
        entropy_level: [N, T] f32 in [-1, 1].
        clip_low: clip width below a ratio of 1 at level 0.
        clip_high: clip width above a ratio of 1 at level 0.
        entropy_clip: how much the level widens the clip range; 0 leaves it.

    Returns:
        Widths below and above a ratio of 1, both [N, T] f32.
    """
    low = clip_low * (1.0 - entropy_clip * jnp.minimum(entropy_level, 0.0))
    high = clip_high * (1.0 + entropy_clip * jnp.maximum(entropy_level, 0.0))
    return low, high


def redistributed(
    advantages: Array,
    entropy_level: Array,
    ratio: Array,
    low: Array,
    high: Array,
    *,
    entropy_advantage: float,
) -> Array:
    """Advantages that depend on entropy (HAPO, arXiv:2509.16591, part C).

        A * (1 + entropy_advantage * h)  where h > 0 and the ratio is not neutral,
                                         or h <= 0 and it is neutral; A elsewhere
        neutral: 1 - low / 2 < ratio < 1 + high / 2

    Args:
        advantages: [N, T] f32.
        entropy_level: [N, T] f32 in [-1, 1].
        ratio: [N, T] f32, policy / denominator.
        low: [N, T] f32, clip width below 1.
        high: [N, T] f32, clip width above 1.
        entropy_advantage: how much the level scales advantages; 0 leaves them.

    Returns:
        [N, T] f32, constant.
    """
    neutral = (ratio > 1.0 - low / 2) & (ratio < 1.0 + high / 2)
    scaled = jnp.where(entropy_level > 0, ~neutral, neutral)
    factor = jnp.where(scaled, 1.0 + entropy_advantage * entropy_level, 1.0)
    return jax.lax.stop_gradient(advantages * factor)


def hapo(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    entropy_level: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = 10.0,
    entropy_clip: float = 1.0,
    entropy_advantage: float = 1.0,
) -> tuple[Array, dict[str, SumCount]]:
    """The clipped loss with widths and advantages by entropy (HAPO, arXiv:2509.16591).

        loss = max(-r * A', -clip(r, 1 - low, 1 + high) * A'), with the dual clip where A' < 0

    low and high from `adaptive_clip`, A' from `redistributed` with these widths.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        entropy_level: [N, T] f32 in [-1, 1], of the whole batch (`batch_inputs`).
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1; 0.28 in the paper, 0.2 in the authors' script.
        dual_clip: cap on the ratio where A < 0, None for off.
        entropy_clip: how much the entropy level widens the clip range; 0 leaves it.
        entropy_advantage: how much the entropy level scales advantages; 0 leaves them.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics of `clipped`.

    Raises:
        ValueError: if a clip width is negative, `dual_clip` is not above 1, or one of the two
            slopes is not in [0, 1] (outside, a width or an advantage would change its sign).
    """
    check_clips(clip_low, clip_high, dual_clip)
    for name, slope in {
        "entropy_clip": entropy_clip,
        "entropy_advantage": entropy_advantage,
    }.items():
        check_field(name, slope, lambda x: 0 <= x <= 1, "in [0, 1]")
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    level = jnp.where(mask, jax.lax.stop_gradient(entropy_level), 0.0)
    ratio = jnp.exp(log_ratio)
    low, high = adaptive_clip(
        level, clip_low=clip_low, clip_high=clip_high, entropy_clip=entropy_clip
    )
    advantages = redistributed(
        advantages, level, ratio, low, high, entropy_advantage=entropy_advantage
    )
    return pessimistic(ratio, advantages, mask, 1.0 - low, 1.0 + high, dual_clip)
