"""A soft gate instead of a clip."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


def sapo(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    sapo_temperature_positive: float = 1.0,
    sapo_temperature_negative: float = 1.05,
) -> tuple[Array, dict[str, SumCount]]:
    """Sigmoid gate around a ratio of 1 (SAPO, arXiv:2511.20347).

        loss = -A * (4 / tau) * sigmoid(tau * (r - 1)),   r = exp(log_ratio)

    Its slope at r = 1 is that of -A * r.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        sapo_temperature_positive: steepness tau of the gate where A > 0.
        sapo_temperature_negative: steepness tau of the gate where A <= 0.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `ratio_mean`.

    Raises:
        ValueError: if a temperature is not positive.
    """
    check_field("sapo_temperature_positive", sapo_temperature_positive, lambda x: x > 0, "> 0")
    check_field("sapo_temperature_negative", sapo_temperature_negative, lambda x: x > 0, "> 0")
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    ratio = jnp.exp(log_ratio)
    tau = jnp.where(advantages > 0, sapo_temperature_positive, sapo_temperature_negative)
    gate = 4.0 / tau * jax.nn.sigmoid(tau * (ratio - 1.0))
    return -advantages * gate, {"ratio_mean": masked(ratio, mask)}
