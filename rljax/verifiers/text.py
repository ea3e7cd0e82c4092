"""What the verifiers read of a completion."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rljax.tasks.symbols.alphabet import EOS_ID, PAD_ID, ZERO_ID

# Stands where a completion has ended; no symbol has this id.
NOTHING = -1


class Content(NamedTuple):
    """The symbols of a completion.

    Attributes:
        tokens: [T] i32, NOTHING from the end on.
        length: [] i32, symbols before the end.
        finished: [] bool, an eos ended them.
    """

    tokens: Array
    length: Array
    finished: Array


def read_content(tokens: Array, mask: Array) -> Content:
    """Cuts a completion at its first eos, or where the mask first ends.

    Args:
        tokens: [T] integer; slots outside the mask may hold anything.
        mask: [T] bool, True on sampled tokens, the eos included.
    """
    places = jnp.arange(tokens.shape[0])
    tokens, mask = tokens.astype(jnp.int32), mask.astype(bool)
    ends = ~mask | (tokens == EOS_ID)
    length = jnp.min(jnp.where(ends, places, tokens.shape[0]), initial=tokens.shape[0])
    finished = jnp.any((places == length) & mask)
    return Content(jnp.where(places < length, tokens, NOTHING), length, finished)


def shifted(values: Array, places: int, fill: int) -> Array:
    """[T], values[t - places], and `fill` beyond the borders.

    Example: of [5, 6, 7], places=1 makes [fill, 5, 6] and places=-1 [6, 7, fill].
    """
    edge = jnp.full((min(abs(places), values.shape[0]),), fill, values.dtype)
    if places >= 0:
        return jnp.concatenate([edge, values[: max(values.shape[0] - places, 0)]])
    return jnp.concatenate([values[-places:], edge])


def equals_answer(content: Content, answer: Array) -> Array:
    """[] bool, True if the first `content.length` symbols are exactly the answer's.

    Args:
        content: finished, or nothing equals it.
        answer: [L] i32, padded on the right with pad.
    """
    shared = min(content.tokens.shape[0], answer.shape[0])
    wanted = answer != PAD_ID
    same = (content.tokens[:shared] == answer[:shared]) | ~wanted[:shared]
    return content.finished & jnp.all(same) & (content.length == jnp.sum(wanted))


def is_digit(tokens: Array) -> Array:
    """True on the ids of 0 .. 9, of any shape."""
    return (tokens >= ZERO_ID) & (tokens <= ZERO_ID + 9)
