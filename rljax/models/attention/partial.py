"""Attention in parts: keys that lie in several places, each part a softmax over its own keys.

A part keeps the largest score, the sum of the exponentials and their mix of values; parts are
merged exactly into the softmax over all keys (arXiv:2205.14135, section 3.1). With it a query sees
a prefix that it shares with others, the blocks of its own cache that are in use, and itself.

Letters beside the usual ones: Z batch, K key-value heads, R queries of one key-value head (of all
rows that read the same keys), C keys, h size of a head.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rljax.models.attention.dense import soft_cap
from rljax.models.config import ModelConfig

# The largest score of a query that sees no key: far below any score, and finite.
NOTHING = -1e30


class Partial(NamedTuple):
    """Attention over some keys."""

    top: Array  # [Z, K, R] f32, largest score; `NOTHING` where no key is seen
    total: Array  # [Z, K, R] f32, sum of exp(score - top)
    mixed: Array  # [Z, K, R, h] f32, sum of exp(score - top) * value


class KeyValues(NamedTuple):
    """Keys and values of one layer, [Z, K, C, h]; in int8 with a scale for each [Z, K, C]."""

    keys: Array
    values: Array
    key_scale: Array | None = None  # f32
    value_scale: Array | None = None  # f32


def attend_part(q: Array, kv: KeyValues, seen: Array, config: ModelConfig) -> Partial:
    """q [Z, K, R, h], seen bool and broadcastable to [Z, K, R, C] -> the part over these keys."""
    keys, values = (x.astype(q.dtype) for x in (kv.keys, kv.values))
    scores = jnp.einsum("zkrh,zkch->zkrc", q, keys, preferred_element_type=jnp.float32)
    if kv.key_scale is not None:
        scores *= kv.key_scale[:, :, None]
    scores = soft_cap(scores * config.score_scale, config.attention_softcap)
    scores = jnp.where(seen, scores, NOTHING)
    top = scores.max(axis=-1)
    weights = jnp.where(seen, jnp.exp(scores - top[..., None]), 0.0)
    total = weights.sum(axis=-1)
    if kv.value_scale is not None:
        weights *= kv.value_scale[:, :, None]
    mixed = jnp.einsum(
        "zkrc,zkch->zkrh", weights.astype(q.dtype), values, preferred_element_type=jnp.float32
    )
    return Partial(top, total, mixed)


def attend_self(q: Array, k: Array, v: Array, config: ModelConfig) -> Partial:
    """The part of one key per query: q, k and v [Z, K, R, h]."""
    scores = jnp.sum(q.astype(jnp.float32) * k.astype(jnp.float32), axis=-1)
    scores = soft_cap(scores * config.score_scale, config.attention_softcap)
    return Partial(scores, jnp.ones_like(scores), v.astype(jnp.float32))


def nothing(like: Array) -> Partial:
    """The part that sees no key, of queries q [Z, K, R, h]."""
    shape = like.shape[:-1]
    zeros = jnp.zeros(shape, jnp.float32)
    return Partial(jnp.full(shape, NOTHING), zeros, jnp.zeros(like.shape, jnp.float32))


def merge(one: Partial, other: Partial) -> Partial:
    """The part over the keys of both parts."""
    top = jnp.maximum(one.top, other.top)
    scales = [jnp.exp(part.top - top) for part in (one, other)]
    total = one.total * scales[0] + other.total * scales[1]
    mixed = one.mixed * scales[0][..., None] + other.mixed * scales[1][..., None]
    return Partial(top, total, mixed)


def context(part: Partial, dtype: jnp.dtype) -> Array:
    """[Z, K, R, h], the attention over all keys of the part; 0 for a query that sees none."""
    total = jnp.maximum(part.total, jnp.finfo(jnp.float32).tiny)
    return (part.mixed / total[..., None]).astype(dtype)
