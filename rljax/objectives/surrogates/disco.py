"""Scores of right samples above those of wrong ones, under a KL constraint."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.kl import K3_VALUE_CLAMP
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field

SCORES = ("log_likelihood", "ratio")
HINGE_ESTIMATORS = ("k1", "k3")


def check_disco(disco_score: str, hinge_estimator: str = "k1") -> None:
    """Raises ValueError for a score or an estimator that does not exist."""
    for name, value, known in (
        ("disco_score", disco_score, SCORES),
        ("hinge_estimator", hinge_estimator, HINGE_ESTIMATORS),
    ):
        check_field(name, value, lambda x, known=known: x in known, f"one of {known}")


def token_score(log_ratio: Array, logprobs: Array, disco_score: str) -> Array:
    """The score of each token, log-probability or ratio; its mean is the sample's. [N, T] f32."""
    return logprobs if disco_score == "log_likelihood" else jnp.exp(log_ratio)


def old_kl(log_ratio: Array, hinge_estimator: str) -> Array:
    """Estimate of KL(old || policy) from tokens of the old policy, d = log_ratio: [N, T] f32.

    k1: -d; k3: exp(d) - 1 - d, at most 10 as in the authors' code.
    """
    if hinge_estimator == "k1":
        return -log_ratio
    return jnp.minimum(jnp.expm1(log_ratio) - log_ratio, K3_VALUE_CLAMP)


def disco(
    log_ratio: Array,
    logprobs: Array,
    mask: Array,
    score_weights: Array,
    kl_pressure: Array,
    *,
    disco_score: str = "log_likelihood",
    hinge_estimator: str = "k1",
) -> tuple[Array, dict[str, SumCount]]:
    """Discriminative constrained optimisation (DisCO, arXiv:2505.12366).

        loss = -score_weights * s + kl_pressure * k,   s = logprobs, or the token's ratio

    The loss is linear in s and k, given two constants of the whole batch. Summed over the batch's
    tokens (`token_sum`) it has the gradient of -J + beta / 2 * max(K - delta, 0)^2, with J and K as
    in `batch_inputs`, but not its value.

    Args:
        log_ratio: [N, T] f32, of single tokens (`token`), differentiated.
        logprobs: [N, T] f32, differentiated.
        mask: [N, T] bool.
        score_weights: [N, T] f32, signed weight of each token's score, 1 / L included.
        kl_pressure: [N, T] f32, slope of the hinge divided by the batch's number of tokens.
        disco_score: score of a sample: mean log_likelihood of its tokens, or mean ratio.
        hinge_estimator: estimator of KL(old || policy): k1 or k3.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `hinge_active` (1 while the constraint
        is violated, else 0) and `hinge_kl`, the estimate of the KL.

    Raises:
        ValueError: for an unknown score or estimator.
    """
    check_disco(disco_score, hinge_estimator)
    chex.assert_equal_shape([log_ratio, logprobs, mask, score_weights, kl_pressure])
    log_ratio, logprobs = jnp.where(mask, log_ratio, 0.0), jnp.where(mask, logprobs, 0.0)
    weights = jnp.where(mask, jax.lax.stop_gradient(score_weights), 0.0)
    pressure = jnp.where(mask, jax.lax.stop_gradient(kl_pressure), 0.0)
    kl = old_kl(log_ratio, hinge_estimator)
    loss = -weights * token_score(log_ratio, logprobs, disco_score) + pressure * kl
    return loss, {"hinge_active": masked(pressure > 0, mask), "hinge_kl": masked(kl, mask)}
