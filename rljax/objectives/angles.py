"""How parallel the token vectors of a question are: the signal of GAIN-RL (arXiv:2506.02281).

For y = W x the gradient is a sum of outer products over tokens, so its length grows with the
cosines between the tokens' x. Here x enters the MLP of the last layer.
"""

import jax.numpy as jnp
from jax import Array


def cosines(states: Array) -> Array:
    """[T, D] -> [T, T] f32, cosines between the rows; those of a row of zeros are 0."""
    states = states.astype(jnp.promote_types(states.dtype, jnp.float32))
    length = jnp.linalg.norm(states, axis=-1, keepdims=True)
    unit = states / jnp.where(length > 0, length, 1.0)
    return unit @ unit.T


def angle_signal(
    states: Array, question: Array, shared: Array, *, shared_weight: float = 1.0
) -> Array:
    """C_intra + shared_weight C_inter (arXiv:2506.02281, section 3; its code has a weight of 8).

    C_intra is the mean cosine of the question's tokens with each other, themselves included;
    C_inter that of the question's tokens with those of the shared beginning, 0 where there is none.

    Args:
        states: [T, D] f32.
        question: [T] bool, tokens of the question; at least one.
        shared: [T] bool, tokens of the system prompt.
        shared_weight: of C_inter.

    Returns:
        [] f32.
    """
    found = cosines(states)
    intra = _mean(found, question[:, None] & question)
    return intra + shared_weight * _mean(found, question[:, None] & shared)


def mean_angle(states: Array, present: Array) -> Array:
    """The mean cosine of a batch of tokens, as GAIN-RL's code measures it beside its accuracy.

    Over the entries of the lower triangle and of the first diagonal above it that are not 0.

    Args:
        states: [T, D] f32.
        present: [T] bool.

    Returns:
        [] f32.
    """
    found = cosines(states)
    counted = jnp.tril(jnp.ones(found.shape, bool), k=1) & (found != 0)
    return _mean(found, counted & present[:, None] & present)


def _mean(values: Array, mask: Array) -> Array:
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)
