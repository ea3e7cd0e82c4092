"""Balancing the load of experts: an auxiliary loss, or a bias that changes after each update.

All functions work on the last axis, so that layers can be stacked before it. Counts belong to the
whole batch: they add up all devices and micro-batches, without padding.
"""

import jax
import jax.numpy as jnp
from jax import Array


def auxiliary_loss(
    counts: Array, probabilities: Array, tokens: Array, *, alpha: float = 0.001
) -> Array:
    """Load-balancing loss of the Switch Transformer (arXiv:2101.03961, equations 4 to 6).

        loss = alpha E sum_i f_i P_i        f_i = c_i / sum_j c_j        P_i = mean probability

    It is alpha where the load is even. With K experts per token, f_i is the share of (token,
    choice) pairs, as in arXiv:2408.15664, equation 2; an implementation that counts shares of
    tokens instead is K times as large.

    Args:
        counts: [..., E] f32, pairs sent to each expert; constant in the gradient.
        probabilities: [..., E] f32, sum over tokens of router probabilities that sum to 1.
        tokens: [...] f32, tokens routed. Without any the loss is 0.
        alpha: weight of the loss.

    Returns:
        [...] f32.
    """
    counts = jax.lax.stop_gradient(counts)
    loads = counts / jnp.maximum(counts.sum(axis=-1, keepdims=True), 1.0)
    means = probabilities / jnp.maximum(tokens, 1.0)[..., None]
    return alpha * counts.shape[-1] * (loads * means).sum(axis=-1)


def bias_update(counts: Array, *, rate: float = 0.001) -> Array:
    """What is added to the routing bias after an update (arXiv:2408.15664, algorithm 1).

        rate * sign(mean(c) - c_i)        sign(0) = 0

    The new bias is for the next batch. Used on the batch that was counted, it would tell tokens
    about later tokens. Its sum is not 0 in general.

    Args:
        counts: [..., E] f32.
        rate: step size; 0 freezes the bias.

    Returns:
        [..., E] f32.
    """
    # Times E: whole numbers, so that an even load gives exactly 0.
    total = counts.sum(axis=-1, keepdims=True)
    return rate * jnp.sign(total - counts.shape[-1] * counts)


def max_violation(counts: Array) -> Array:
    """MaxVio (arXiv:2408.15664, equation 4): how much the fullest expert is above the mean load.

        max_i (c_i - mean(c)) / mean(c)

    Args:
        counts: [..., E] f32. All zero gives 0.

    Returns:
        [...] f32, 0 where the load is even, E / K - 1 at worst.
    """
    mean = counts.mean(axis=-1)
    empty = mean == 0
    return jnp.where(empty, 0.0, (counts.max(axis=-1) - mean) / jnp.where(empty, 1.0, mean))
