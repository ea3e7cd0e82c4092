"""Which draws of a denoising step are kept: how sure each one counts, and how many come at once.

How sure a draw is, of the untempered model (`DiffusionConfig.remasking`):

| option | a position counts by |
| --- | --- |
| `low_confidence` | the probability of the token that was drawn (LLaDA, arXiv:2502.09992) |
| `margin` | that of the likeliest token minus that of the second (Dream, arXiv:2508.15487) |
| `entropy` | minus the entropy of its distribution (the same) |
| `left_to_right` | its place: the first open positions of the block |
| `random` | nothing: any positions |

How many: as a schedule says (`num_transfer` in diffusion.py), or as many as an entropy bound lets
through (`within_bound`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.sampling.distribution import entropy, take


def log_probability(logits: Array, tokens: Array) -> Array:
    """log p of tokens, exact to the last digits near 0.

    Probabilities near 1 would round to ties.

    Args:
        logits: [..., V] f32.
        tokens: [...] i32.

    Returns:
        [...] f32.
    """
    largest = logits.max(axis=-1)
    normaliser = jnp.log(jnp.exp(logits - largest[..., None]).sum(axis=-1))
    return take(logits, tokens) - largest - normaliser


def margin(logits: Array, tokens: Array) -> Array:
    """Probability of the likeliest token minus that of the second: [..., V], [...] -> [...]."""
    del tokens
    first, second = jnp.moveaxis(jax.lax.top_k(logits, 2)[0], -1, 0)
    total = jnp.exp(logits - first[..., None]).sum(axis=-1)
    return -jnp.expm1(second - first) / total


def negative_entropy(logits: Array, tokens: Array) -> Array:
    """Minus the entropy in nats: [..., V] f32, [...] i32 -> [...] f32."""
    del tokens
    return -entropy(jax.nn.log_softmax(logits, axis=-1))


# Option -> (logits of what may be drawn, tokens that were) -> how sure they count. The others know
# of no model.
OF_MODEL: dict[str, Callable[[Array, Array], Array]] = {
    "low_confidence": log_probability,
    "margin": margin,
    "entropy": negative_entropy,
}
REMASKING = (*OF_MODEL, "left_to_right", "random")


def ranks_of(confidence: Array) -> Array:
    """[N, K] f32 -> [N, K] i32, 0 for the highest; ties: the leftmost comes first."""
    order = jnp.argsort(-confidence, axis=-1, stable=True)
    return jnp.argsort(order, axis=-1)


def within_bound(ranks: Array, entropies: Array, still_open: Array, bound: float) -> Array:
    """How many positions an entropy bound keeps at once (EB-Sampler, arXiv:2505.24857).

    The most, in the order of the ranks, whose entropies without the largest one add up to at most
    the bound: so much can the joint distribution of what is kept differ from the product that it is
    drawn from, in nats, if the model's distributions are right. One position is always kept.

    Args:
        ranks: [N, K] i32, of the open positions first.
        entropies: [N, K] f32, nats, of the untempered model.
        still_open: [N, K] bool.
        bound: in nats, >= 0.

    Returns:
        [N] i32, at most the number of open positions.
    """
    order = jnp.argsort(ranks, axis=-1)
    opened = jnp.take_along_axis(still_open, order, axis=-1)
    sorted_entropies = jnp.where(opened, jnp.take_along_axis(entropies, order, axis=-1), 0.0)
    largest = jax.lax.cummax(sorted_entropies, axis=1)
    kept = opened & (jnp.cumsum(sorted_entropies, axis=-1) - largest <= bound)
    return jnp.cumprod(kept.astype(jnp.int32), axis=-1).sum(axis=-1)
