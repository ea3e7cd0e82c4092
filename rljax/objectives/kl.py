"""Estimators of KL(policy || reference) from the sampled tokens.

    x = logprobs - ref_logprobs, on tokens sampled from the policy

| name | value | expected value | expected gradient as a loss |
| --- | --- | --- | --- |
| `k1` | x | KL(policy || ref) | 0: useless as a loss |
| `k2` | x^2 / 2 | (biased) | grad KL(policy || ref), of states |
| `k2_sequence` | (sum of x)^2 / 2 / length | (biased) | of the row's own log-ratio |
| `k3` | exp(-x) + x - 1 | KL(policy || ref) | grad KL(ref || policy), of states |
| `k1_plus` | value of k1 | KL(policy || ref) | gradient of k2 |
| `k3_plus` | value of k3 | KL(policy || ref) | gradient of k2 |

*Of states*: a loss term moves the distribution of the next token in the states that were visited,
and does not see that another policy visits other states. It is the mean over visited states of the
gradient of the KL between next-token distributions, not the gradient of the KL between
distributions of whole completions, which has a further part. That one is what a penalty inside the
reward gives, with `k1`: its advantage weighs all tokens before it. `k2` and `k3` in the reward
give another gradient, as a reward is a constant: with `k3` that of KL(policy || ref) of completions
minus that of KL(ref || policy) of states. All of this is enumerated in
tests/training/learner/test_enumeration_terms.py.

The straight-through `k3_plus` is never negative, unbiased in value and, of states, right in
gradient.
"""

import warnings
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import Array

# verl 0.9.1 (core_algos.kl_penalty_forward): the exponent of k3 is clamped to +-20, its value to
# +-10. Both stop the gradient beyond; a policy inside any sensible trust region never gets there.
K3_EXPONENT_CLAMP = 20.0
K3_VALUE_CLAMP = 10.0


def _difference(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    chex.assert_rank(logprobs, 2)
    chex.assert_equal_shape([logprobs, ref_logprobs, mask])
    return jnp.where(mask, logprobs - jax.lax.stop_gradient(ref_logprobs), 0.0)


def k1(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """x: unbiased, high variance, may be negative; for the reward. [N, T] f32, 0 off the mask."""
    return _difference(logprobs, ref_logprobs, mask)


def k2(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """x^2 / 2: biased value, gradient of the KL of states. [N, T] f32, zero outside the mask."""
    return 0.5 * _difference(logprobs, ref_logprobs, mask) ** 2


def k2_sequence(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """(sum of x over the row)^2 / 2 / length, the same on every token of the row. [N, T] f32.

    For estimates of whole rows, whose tokens' shares mean little (ESPO, arXiv:2512.03759).
    """
    total = _difference(logprobs, ref_logprobs, mask).sum(axis=-1, keepdims=True)
    length = jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return jnp.where(mask, 0.5 * total**2 / length, 0.0)


def k3(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """exp(-x) + x - 1: unbiased value, gradient of KL(ref || policy) of states. [N, T] f32."""
    exponent = jnp.clip(
        -_difference(logprobs, ref_logprobs, mask), -K3_EXPONENT_CLAMP, K3_EXPONENT_CLAMP
    )
    # expm1 keeps the digits of a small x, where exp(-x) - 1 would cancel.
    return jnp.clip(jnp.expm1(exponent) - exponent, -K3_VALUE_CLAMP, K3_VALUE_CLAMP)


def _straight_through(value: Array, gradient: Array) -> Array:
    return jax.lax.stop_gradient(value) + gradient - jax.lax.stop_gradient(gradient)


def k1_plus(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """Value of k1, gradient of k2. [N, T] f32, zero outside the mask."""
    return _straight_through(k1(logprobs, ref_logprobs, mask), k2(logprobs, ref_logprobs, mask))


def k3_plus(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
    """Value of k3, gradient of k2. [N, T] f32, zero outside the mask."""
    return _straight_through(k3(logprobs, ref_logprobs, mask), k2(logprobs, ref_logprobs, mask))


KL_ESTIMATORS = {
    "k1": k1,
    "k2": k2,
    "k2_sequence": k2_sequence,
    "k3": k3,
    "k1_plus": k1_plus,
    "k3_plus": k3_plus,
}

# Estimators that are right in their gradient, not in their value. When they are re-weighted to
# another sampling policy, the weight must be a constant; the others need its gradient as well.
RIGHT_IN_GRADIENT: frozenset[Callable] = frozenset({k2, k2_sequence, k1_plus, k3_plus})


def warn_if_useless(estimator: str) -> None:
    """Warns when an estimator is chosen as a loss term that has no expected gradient.

    Call it when the step is built, for a KL term in the loss (not in the reward).

    Args:
        estimator: a key of `KL_ESTIMATORS`.
    """
    if estimator == "k1":
        warnings.warn(
            "KL estimator 'k1' in the loss has zero expected gradient on policy: it adds noise and "
            "does not hold the policy near the reference. Use 'k3_plus' or 'k2' "
            "(config.<stage>.objective.kl_estimator), or put the KL into the reward.",
            UserWarning,
            stacklevel=2,
        )
