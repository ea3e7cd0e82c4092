"""Bias and variance of an entry: enumerated in float64, and sampled in float32 as training does."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from rljax.laboratory.draws import multisets
from rljax.laboratory.entry import Entry
from rljax.laboratory.problem import Params, log_likelihood

MOST_DRAWS = 20_000  # that are enumerated
STANDARD_ERRORS = 3.0


class Measured(NamedTuple):
    """What was found of an entry. Numbers that it does not have are None.

    Exact numbers are None where there are more draws than can be enumerated; the others are then
    estimates of as many draws as were asked for.
    """

    aim: float  # the scalar that it is held against
    truth: float  # log p(a* | x)
    value_bias: float | None  # exact: E[value] - aim
    gradient_bias: float | None  # exact: |E[gradient] - grad aim| / |grad aim|
    variance: float | None  # trace of the gradient's covariance / |grad aim|^2
    value_z: float | None  # sampled: (mean - aim) / standard error
    gradient_z: float | None  # sampled: the same, along the gradient of the aim
    gradient_shift: float | None  # sampled: relative size along the gradient of the aim, minus 1
    exact: bool


def measure(entry: Entry, params: Params, *, draws: int, seed: int) -> Measured:
    """Measures one entry.

    Args:
        entry: the estimator.
        params: float64, on the host.
        draws: sampled ones.
        seed: of the sampling.
    """
    with jax.enable_x64(True):
        double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        aim, slope = jax.jit(jax.value_and_grad(entry.aim))(double)
        aim, slope = float(aim), np.asarray(ravel_pytree(slope)[0])
        truth = float(jax.jit(log_likelihood)(double))
        found = _enumerated(entry, double)
    size = float(np.linalg.norm(slope))
    values, gradients = _sampled(entry, params, draws, seed)
    value_z = _z(values - aim) if entry.has_value else None
    along = gradients @ slope / size**2
    gradient_z = _z(along - 1.0) if entry.has_gradient else None
    shift = float(along.mean() - 1.0) if entry.has_gradient else None
    variance = float(gradients.var(axis=0).sum()) / size**2
    value_bias = gradient_bias = None
    if found is not None:
        chance, exact_values, exact_gradients = found
        mean = chance @ exact_gradients
        value_bias = float(chance @ exact_values) - aim if entry.has_value else None
        variance = float(chance @ ((exact_gradients - mean) ** 2).sum(axis=1)) / size**2
        if entry.has_gradient:
            gradient_bias = float(np.linalg.norm(mean - slope)) / size
    return Measured(
        aim=aim,
        truth=truth,
        value_bias=value_bias,
        gradient_bias=gradient_bias,
        variance=variance if entry.has_gradient else None,
        value_z=value_z,
        gradient_z=gradient_z,
        gradient_shift=shift,
        exact=found is not None,
    )


def keeps_its_claims(entry: Entry, found: Measured) -> bool:
    """Whether what the entry claims is within 3 standard errors of 0, and exact numbers are 0."""
    checks = [
        (entry.claims_value and entry.has_value, found.value_z, found.value_bias),
        (entry.claims_gradient and entry.has_gradient, found.gradient_z, found.gradient_bias),
    ]
    return all(
        abs(z) <= STANDARD_ERRORS and (bias is None or abs(bias) < 1e-9)
        for claimed, z, bias in checks
        if claimed
    )


def _estimates(entry: Entry, params: Params, draws: Array) -> tuple[np.ndarray, np.ndarray]:
    """Values [D] and gradients [D, P] of draws [D, slots]."""

    def one(params: Params, draw: Array) -> tuple[Array, Array]:
        def loss(params: Params) -> tuple[Array, Array]:
            value, loss = entry.estimate(params, draw)
            return loss, value

        gradient, value = jax.grad(loss, has_aux=True)(params)
        return value, -ravel_pytree(gradient)[0]

    values, gradients = jax.jit(jax.vmap(one, (None, 0)))(params, draws)
    return np.asarray(values, np.float64), np.asarray(gradients, np.float64)


def _enumerated(entry: Entry, params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Chances [D], values [D] and gradients [D, P] of all draws; None where there are too many."""
    slots = np.asarray(entry.slots(params))
    count, outcomes = slots.shape
    if not entry.alike or math.comb(outcomes + count - 1, count) > MOST_DRAWS:
        return None
    draws, ways = multisets(outcomes, count)
    chance = np.exp(slots[0][draws].sum(axis=1)) * ways
    return chance, *_estimates(entry, params, jnp.asarray(draws))


def _sampled(entry: Entry, params: Params, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    slots = entry.slots(single)
    draws = jax.random.categorical(jax.random.key(seed), slots, axis=-1, shape=(count, len(slots)))
    return _estimates(entry, single, draws)


def _z(differences: np.ndarray) -> float:
    """Their mean in standard errors; 0 for numbers that do not differ from zero at all."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    return float(mean / error) if error > 1e-6 * max(abs(mean), 1e-30) else 0.0
