"""A KL penalty on the tokens that drive the entropy down."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned

# Two passes of one policy differ by rounding, and the sign of that is no direction: below this the
# distance has no gradient.
ROUNDING = 1e-5


def kl_cov(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    high_covariance: Array,
    *,
    covariance_kl_weight: float = 1.0,
) -> tuple[Array, dict[str, SumCount]]:
    """KL-Cov (arXiv:2505.22617): penalised where advantage and log-probability covary most.

        loss = -A * r + covariance_kl_weight * |log_ratio| on tokens of high covariance
        loss = -A * r elsewhere: nothing is clipped, as in the authors' code

    So the first update of a step, where the ratio is 1, is a plain policy gradient.

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32; not read.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        high_covariance: [N, T] bool, of the whole batch (`batch_inputs`).
        covariance_kl_weight: factor of |log_ratio| on tokens of high covariance.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `log_ratio_abs`, of all tokens,
        `high_covariance_share` and `ratio_mean`.

    Raises:
        ValueError: if `covariance_kl_weight` is negative.
    """
    check_field("covariance_kl_weight", covariance_kl_weight, lambda x: x >= 0, ">= 0")
    log_ratio, _, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    high = high_covariance & mask
    ratio = jnp.exp(log_ratio)
    distance = jnp.where(jnp.abs(log_ratio) < ROUNDING, 0.0, jnp.abs(log_ratio))
    loss = -advantages * ratio + covariance_kl_weight * jnp.where(high, distance, 0.0)
    metrics = {
        "log_ratio_abs": masked(distance, mask),
        "high_covariance_share": masked(high, mask),
        "ratio_mean": masked(ratio, mask),
    }
    return loss, metrics
