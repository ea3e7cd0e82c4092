"""Surrogates that nothing bounds: the log-probability itself, or the ratio."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.surrogates.inputs import cleaned


def policy_gradient(
    log_ratio: Array, logprobs: Array, advantages: Array, mask: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Plain policy gradient: loss = -A * logprobs (REINFORCE; no ratio, nothing clipped).

    Args:
        log_ratio: [N, T] f32; not read.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.

    Returns:
        [N, T] loss, zero outside the mask, and no metrics.
    """
    _, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    return -advantages * logprobs, {}


def unclipped(
    log_ratio: Array, logprobs: Array, advantages: Array, mask: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Importance sampling: loss = -A * r, r = exp(log_ratio) (HPT, arXiv:2509.04419, as released).

    The released code divides the sum over rows by the length alone. With the aggregation
    `sequence_mean_token_scale` the mean over rows is taken as well.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `ratio_mean`.
    """
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    ratio = jnp.exp(log_ratio)
    return -advantages * ratio, {"ratio_mean": masked(ratio, mask)}
