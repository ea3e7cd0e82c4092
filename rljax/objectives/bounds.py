"""Bounds on the log-likelihood of a completion, from draws of masked diffusion.

Of draw j, token i has the log-probability lp[i, j] given what is not hidden, and the weight
w[i, j], 0 where it is not hidden (objectives/masking.py). With M draws,

    lower  L[i] = 1 / M sum_j w[i, j] lp[i, j]              sum over i: the ELBO
    upper  U[i] = 1 / beta log(1 / M sum_j w[i, j] exp(beta lp[i, j]))

The exact expectation of the lower bound is at most log p(completion | prompt). That of the upper
one is above it for one token, or for beta >= the number of tokens; elsewhere it is an upper bound
up to a constant that no parameter changes (arXiv:2510.09541), so that its gradient may be followed.
"""

import jax
import jax.numpy as jnp
from jax import Array


def lower_shares(draw_logprobs: Array, draw_weights: Array) -> Array:
    """Each token's share of the lower bound: [..., M] f32 twice -> [...] f32."""
    return weighted_mean(draw_logprobs, draw_weights)


def weighted_mean(values: Array, draw_weights: Array) -> Array:
    """Mean over the draws of a token's weight times what each says of it: [..., M] -> [...]."""
    return jnp.where(draw_weights > 0, draw_weights * values, 0.0).mean(axis=-1)


def lower_per_token(draw_logprobs: Array, draw_weights: Array, mask: Array) -> Array:
    """The lower bound divided by the number of tokens.

    Args:
        draw_logprobs: [N, T, M] f32, differentiated.
        draw_weights: [N, T, M] f32.
        mask: [N, T] bool.

    Returns:
        [N] f32, nats per token; 0 for an empty row.
    """
    shares = jnp.where(mask, lower_shares(draw_logprobs, draw_weights), 0.0)
    return shares.sum(axis=-1) / jnp.maximum(mask.sum(axis=-1), 1)


def upper_per_token(
    draw_logprobs: Array, draw_weights: Array, mask: Array, *, power: float
) -> Array:
    """The upper bound of the tokens that some draw hides, in mean over these.

    Its gradient falls mostly to the draws in which a token is likely.

    Args:
        draw_logprobs: [N, T, M] f32, differentiated.
        draw_weights: [N, T, M] f32.
        mask: [N, T] bool.
        power: beta > 0. Towards 0 the bound of exact expectations becomes the lower one.

    Returns:
        [N] f32, nats per token; 0 where no token is hidden.
    """
    counted = (draw_weights > 0) & mask[..., None]
    hidden = counted.any(axis=-1)
    # Tokens that no draw hides get a finite number without gradient, and are left out.
    counted_safe = counted | ~hidden[..., None]
    weights = jnp.where(counted, draw_weights, 1.0)
    powers = jnp.where(counted, power * draw_logprobs + jnp.log(weights), 0.0)
    sums = jax.nn.logsumexp(powers, axis=-1, where=counted_safe)
    logs = (sums - jnp.log(draw_logprobs.shape[-1])) / power
    return jnp.where(hidden, logs, 0.0).sum(axis=-1) / jnp.maximum(hidden.sum(axis=-1), 1)


def sequence_bounds(draw_logprobs: Array, draw_weights: Array, mask: Array) -> Array:
    """The lower bound of each draw, summed over the completion: [N, T, M] twice -> [N, M] f32."""
    counted = (draw_weights > 0) & mask[..., None]
    return jnp.where(counted, draw_weights * draw_logprobs, 0.0).sum(axis=1)
