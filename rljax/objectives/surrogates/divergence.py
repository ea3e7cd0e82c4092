"""Tokens are dropped by the change of their probability, not by their ratio."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


def _masked_weight(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    keep: Array,
    ratio_cap: float,
) -> tuple[Array, dict[str, SumCount]]:
    """-keep * sg(min(r, ratio_cap)) * A * logprobs, from inputs that are cleaned."""
    check_field("ratio_cap", ratio_cap, lambda x: x > 0, "> 0")
    ratio = jnp.exp(jax.lax.stop_gradient(log_ratio))
    loss = -jnp.where(keep, jnp.minimum(ratio, ratio_cap), 0.0) * advantages * logprobs
    return loss, {"divergence_share": masked(~keep, mask), "ratio_mean": masked(ratio, mask)}


def _probabilities(logprobs: Array, old_logprobs: Array, mask: Array) -> tuple[Array, Array]:
    """The taken token's probability under the policy and the old one; 1 outside the mask."""
    old = jnp.where(mask, old_logprobs, 0.0)
    return jnp.exp(jax.lax.stop_gradient(logprobs)), jnp.exp(jax.lax.stop_gradient(old))


def _check_widths(divergence_low: float, divergence_high: float) -> None:
    widths = {"divergence_low": divergence_low, "divergence_high": divergence_high}
    for name, width in widths.items():
        check_field(name, width, lambda x: x >= 0, ">= 0")


def dppo_tv(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    old_logprobs: Array,
    *,
    divergence_low: float = 0.15,
    divergence_high: float = 0.15,
    ratio_cap: float = 20.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Trust region in total variation, taken token against the rest (DPPO, arXiv:2602.04879).

        loss = -keep * sg(min(r, ratio_cap)) * A * logprobs,   p = exp(logprobs)
        keep: p - p_old <= divergence_high where A > 0, p - p_old >= -divergence_low elsewhere

    The ratio of a rare token may change a lot, since its probability hardly changes.

    Args:
        log_ratio: [N, T] f32; only its value is read.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        old_logprobs: [N, T] f32, constant.
        divergence_low: largest divergence of a token that fell where its advantage is not positive.
        divergence_high: largest divergence of a token that rose where its advantage is positive.
        ratio_cap: cap on the ratio.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `divergence_share` (tokens dropped) and
        `ratio_mean`.

    Raises:
        ValueError: if a width is negative or `ratio_cap` is not positive.
    """
    _check_widths(divergence_low, divergence_high)
    log_ratio, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    new, old = _probabilities(logprobs, old_logprobs, mask)
    keep = jnp.where(advantages > 0, new - old <= divergence_high, new - old >= -divergence_low)
    return _masked_weight(log_ratio, logprobs, advantages, mask, keep, ratio_cap)


def dppo_kl(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    old_logprobs: Array,
    *,
    divergence_low: float = 0.05,
    divergence_high: float = 0.05,
    ratio_cap: float = 20.0,
) -> tuple[Array, dict[str, SumCount]]:
    """As `dppo_tv`, with the Kullback-Leibler divergence of taken token against the rest.

        kl = p_old log(p_old / p) + (1 - p_old) log((1 - p_old) / (1 - p))
        keep: kl <= divergence_high or p <= p_old where A > 0,
              kl <= divergence_low or p >= p_old elsewhere

    Args:
        log_ratio: [N, T] f32; only its value is read.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        old_logprobs: [N, T] f32, constant.
        divergence_low: largest divergence of a token that fell where its advantage is not positive.
        divergence_high: largest divergence of a token that rose where its advantage is positive.
        ratio_cap: cap on the ratio.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics of `dppo_tv`.

    Raises:
        ValueError: if a width is negative or `ratio_cap` is not positive.
    """
    _check_widths(divergence_low, divergence_high)
    log_ratio, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    new, old = _probabilities(logprobs, old_logprobs, mask)
    kl = _binary_kl(old, new)
    kept_up = (kl <= divergence_high) | (new <= old)
    kept_down = (kl <= divergence_low) | (new >= old)
    keep = jnp.where(advantages > 0, kept_up, kept_down)
    return _masked_weight(log_ratio, logprobs, advantages, mask, keep, ratio_cap)


def _binary_kl(old: Array, new: Array) -> Array:
    """KL of two coins; 0 log 0 counts as 0; infinite if the new coin cannot do what the old did."""
    rest_old, rest_new = 1.0 - old, 1.0 - new
    heads = jax.scipy.special.rel_entr(old, new)
    return heads + jax.scipy.special.rel_entr(rest_old, rest_new)
