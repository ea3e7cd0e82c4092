"""Supervised objectives on demonstrations."""

import chex
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def nll(logprobs: Array, mask: Array) -> tuple[Array, dict[str, SumCount]]:
    """Negative log-likelihood of the demonstrated tokens.

    It is the policy-gradient loss with advantage 1 and the policy itself in the denominator.

    Args:
        logprobs: [N, T] f32, log-probability of the demonstrated token.
        mask: [N, T] bool, True on the tokens to learn (the completion, its end token included).

    Returns:
        [N, T] loss, zero outside the mask, and the metric `nll` (nats per token).
    """
    chex.assert_rank(logprobs, 2)
    chex.assert_equal_shape([logprobs, mask])
    loss = -jnp.where(mask, logprobs, 0.0)
    return loss, {"nll": masked(loss, mask)}
