"""Rare tokens that are not noise are pulled back to the old policy without its noise."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.kl import k3
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.clipped import check_clips, pessimistic
from rljax.objectives.surrogates.inputs import cleaned


def lp_reg(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    proxy_logprobs: Array,
    rare_negatives: Array,
    *,
    clip_low: float = 1.0,
    clip_high: float = 9.0,
    proxy_weight: float = 1.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Low-probability regularisation (Lp-Reg, arXiv:2510.03222), as in the authors' code.

        loss = -A * r + proxy_weight * k3(logprobs, proxy_logprobs)   on the tokens pulled
        loss = max(-A * r, -A * clip(r, 1 - clip_low, 1 + clip_high)) elsewhere

    A token is pulled if it is one of `rare_negatives` and is less likely than under the proxy. The
    proxy is the old policy without its tail, which counts as noise; the rest is renormalised. A
    token of the tail has no probability there and is never pulled. The paper's KL runs over the
    vocabulary; k3 is its estimate from the sampled token, with the gradient (1 - proxy / policy) *
    grad logprobs.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        proxy_logprobs: [N, T] f32, the sampled tokens under the proxy; -inf or very low in the
            tail; constant.
        rare_negatives: [N, T] bool, of the whole batch (`batch_inputs`).
        clip_low: clip width below a ratio of 1.
        clip_high: clip width above a ratio of 1.
        proxy_weight: factor of the pull towards the proxy.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics of `clipped` and `pulled_share`.

    Raises:
        ValueError: if a clip width or `proxy_weight` is negative.
    """
    check_clips(clip_low, clip_high)
    check_field("proxy_weight", proxy_weight, lambda x: x >= 0, ">= 0")
    log_ratio, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    ratio = jnp.exp(log_ratio)
    loss, metrics = pessimistic(ratio, advantages, mask, 1.0 - clip_low, 1.0 + clip_high)
    pulled = mask & rare_negatives & (jax.lax.stop_gradient(logprobs) < proxy_logprobs)
    # k3 is 0 outside the mask that it is given, so that -inf never enters it.
    pull = -advantages * ratio + proxy_weight * k3(logprobs, proxy_logprobs, pulled)
    return jnp.where(pulled, pull, loss), metrics | {"pulled_share": masked(pulled, mask)}
