"""Controllers: how the weight of the KL follows the KL that was measured.

A target needs a unit. Ziegler et al. sum the KL over the tokens of a sample (target 6), verl takes
the mean over them (target 0.1): with 60 tokens the two are the same.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount
from rljax.objectives.parts import check_field


def sequence_sum(kl: Array, mask: Array) -> SumCount:
    """Nats per sample: the sum over a row's tokens, averaged over non-empty rows.

    Args:
        kl: [N, T] f32, an estimator's values (k1: old minus reference log-probability).
        mask: [N, T] bool.

    Returns:
        `SumCount` over rows, constant.
    """
    chex.assert_equal_shape([kl, mask])
    total = jnp.where(mask, jax.lax.stop_gradient(kl), 0.0).sum()
    return SumCount(total, mask.any(axis=-1).sum().astype(float))


def token_mean(kl: Array, mask: Array) -> SumCount:
    """Nats per token: the mean over a row's tokens, averaged over non-empty rows.

    Args:
        kl: [N, T] f32, an estimator's values.
        mask: [N, T] bool.

    Returns:
        `SumCount` over rows, constant.
    """
    chex.assert_equal_shape([kl, mask])
    sums = jnp.where(mask, jax.lax.stop_gradient(kl), 0.0).sum(axis=-1)
    tokens = mask.sum(axis=-1)
    return SumCount((sums / jnp.maximum(tokens, 1)).sum(), (tokens > 0).sum().astype(float))


KL_UNITS = {"sequence_sum": sequence_sum, "token_mean": token_mean}


def fixed(kl_coefficient: Array, measured_kl: Array, samples: Array) -> Array:
    """The weight stays as it is.

    Args:
        kl_coefficient: [] f32, weight that was used in this update.
        measured_kl: [] f32; not read.
        samples: [] i32; not read.

    Returns:
        [] f32.
    """
    return kl_coefficient


def adaptive(
    kl_coefficient: Array,
    measured_kl: Array,
    samples: Array,
    *,
    kl_target: float = 6.0,
    kl_horizon: float = 10000.0,
    kl_error_clip: float = 0.2,
) -> Array:
    """Proportional control in log space (Ziegler et al., arXiv:1909.08593, section 2.2).

        e      = clip(KL / target - 1, -0.2, 0.2)
        weight = weight * (1 + e * samples / horizon)

    Args:
        kl_coefficient: [] f32, weight that was used in this update (0.15 at first in the paper's
            code, 0.001 in verl).
        measured_kl: [] f32, mean of a part of `KL_UNITS`; NaN leaves the weight as it is.
        samples: [] i32, sequences of this update.
        kl_target: in the unit of `measured_kl`: 6 per sequence in the paper, 0.1 per token in verl.
        kl_horizon: samples over which an error of 1 would double the weight.
        kl_error_clip: bound on the relative error.

    Returns:
        [] f32, weight of the next update.

    Raises:
        ValueError: if a field is not positive.
    """
    fields = dict(kl_target=kl_target, kl_horizon=kl_horizon, kl_error_clip=kl_error_clip)
    for name, value in fields.items():
        check_field(name, value, lambda x: x > 0, "> 0")
    error = jnp.clip(measured_kl / kl_target - 1.0, -kl_error_clip, kl_error_clip)
    factor = 1.0 + error * samples / kl_horizon
    return kl_coefficient * jnp.where(jnp.isnan(factor), 1.0, factor)


KL_CONTROLLERS = {"fixed": fixed, "adaptive": adaptive}
