"""A smooth weight of the whole sequence instead of a clipped one."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.ratios import LOG_RATIO_CLAMP
from rljax.objectives.surrogates.inputs import cleaned

# TRL 1.16.0 computes the weight from a ratio of at least 1e-8.
LOG_RATIO_FLOOR = math.log(1e-8)
# TRL's least rate: without one, a ratio of e^20 would keep a weight that grows with it.
RATE_FLOOR = 1e-4


def vespo(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    vespo_power_positive: float = 2.0,
    vespo_rate_positive: float = 3.0,
    vespo_power_negative: float = 3.0,
    vespo_rate_negative: float = 2.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Gamma-shaped weight of the sequence ratio (VESPO, arXiv:2602.10693).

        loss = -sg(phi(w)) * A * logprobs,   phi(w) = w^k exp(l (1 - w)),   phi(1) = 1
        w[n] = exp(sum_t log_ratio[n, t])

    with power k and rate l by the sign of A. phi has its largest value at w = k / l.

    Args:
        log_ratio: [N, T] f32, the ratio of single tokens (`token`); only its value is read.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        vespo_power_positive: power of the sequence ratio where A >= 0.
        vespo_rate_positive: rate of decay with the sequence ratio where A >= 0.
        vespo_power_negative: power of the sequence ratio where A < 0.
        vespo_rate_negative: rate of decay with the sequence ratio where A < 0.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `sequence_weight_mean`.

    Raises:
        ValueError: if a power or a rate is negative.
    """
    fields = {
        "vespo_power_positive": vespo_power_positive,
        "vespo_rate_positive": vespo_rate_positive,
        "vespo_power_negative": vespo_power_negative,
        "vespo_rate_negative": vespo_rate_negative,
    }
    for name, value in fields.items():
        check_field(name, value, lambda x: x >= 0, ">= 0")
    log_ratio, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    total = jax.lax.stop_gradient(log_ratio).sum(axis=-1, keepdims=True)
    total = jnp.clip(total, LOG_RATIO_FLOOR, LOG_RATIO_CLAMP)
    positive = advantages >= 0
    power = jnp.where(positive, vespo_power_positive, vespo_power_negative)
    rate = jnp.where(positive, vespo_rate_positive, vespo_rate_negative)
    rate = jnp.maximum(rate, RATE_FLOOR)
    weight = jnp.exp(power * total - rate * jnp.expm1(total))
    return -weight * advantages * logprobs, {"sequence_weight_mean": masked(weight, mask)}
