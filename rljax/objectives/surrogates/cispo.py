"""The clipped ratio as a constant weight of the log-probability: no token loses its gradient."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


def cispo(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float | None = None,
    clip_high: float = 0.2,
) -> tuple[Array, dict[str, SumCount]]:
    """Clipped importance weight (CISPO, arXiv:2506.13585).

        loss = -sg(clip(r, 1 - clip_low, 1 + clip_high)) * A * logprobs

    Without a lower bound it is the truncated weight of AIPO (arXiv:2505.24034) and PipelineRL
    (arXiv:2509.19128), whose cap is 1 + clip_high. PipelineRL's paper caps at 5, the default of its
    authors' code at 1.02.

    Args:
        log_ratio: [N, T] f32; only its value is read.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        clip_low: clip width below a ratio of 1, None for no lower bound.
        clip_high: clip width above a ratio of 1.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `clip_share_low` and `clip_share_high`
        (tokens whose weight was clipped, whatever their advantage) and `ratio_mean`.

    Raises:
        ValueError: if a clip width is negative.
    """
    for name, width in {"clip_low": clip_low, "clip_high": clip_high}.items():
        check_field(name, width, lambda x: x >= 0, ">= 0")
    log_ratio, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    ratio = jnp.exp(jax.lax.stop_gradient(log_ratio))
    lower, upper = 0.0 if clip_low is None else 1.0 - clip_low, 1.0 + clip_high
    metrics = {
        "clip_share_low": masked(ratio < lower, mask),
        "clip_share_high": masked(ratio > upper, mask),
        "ratio_mean": masked(ratio, mask),
    }
    return -jnp.clip(ratio, lower, upper) * advantages * logprobs, metrics
