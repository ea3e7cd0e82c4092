"""Slug constrained-rlhf: advantages that multipliers mix, and the multipliers' own loss."""

import functools

import jax
import jax.numpy as jnp

from golden_adapters.common import floats, lookup
from rljax.objectives.multipliers import mix, mixing_weights, multiplier_loss

_KINDS = {"mu": "at_least", "xi": "equal"}


def constrained_rlhf(case: dict) -> dict:
    kind = lookup(_KINDS, case["args"]["kind"], "multiplier")
    raw, reached, thresholds = (
        floats(case, name) for name in ("lagrange", "mean_return", "thresholds")
    )
    weights = mixing_weights(raw, threshold_kind=kind)
    own = jnp.concatenate([floats(case, "kl_advantage")[None], floats(case, "reward_advantages")])
    loss, gradient = jax.value_and_grad(functools.partial(multiplier_loss, threshold_kind=kind))(
        raw, reached, thresholds
    )
    return {
        "weights": weights,
        "mixed_advantage": mix(jnp.moveaxis(own, 0, -1), weights),
        "multiplier_loss": loss,
        "grad_multipliers": gradient,
    }
