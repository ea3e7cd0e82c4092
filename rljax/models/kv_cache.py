"""Keys and values that decoding keeps: of prompts, and of what each row has written.

A row's own tokens lie in a ring of C columns that all rows write together: at every step the column
`column`. The last `age` columns before it hold the row's own tokens, whatever the other rows do; a
row that begins anew only sets its age to 0. No row needs a place of its own to write to, so one
contiguous slice is updated in place.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention.partial import KeyValues
from rljax.models.config import ModelConfig
from rljax.parallel.rules import constrain

Cache = tuple[KeyValues, ...]  # of each layer

AXES = ("batch", "kv_heads", None, None)
INT8_BOUND = 127.0


def empty_cache(config: ModelConfig, rows: int, columns: int, dtype: str = "") -> Cache:
    """Zeros for every layer; dtype "": the compute dtype, or "int8"."""
    kept = jnp.int8 if dtype == "int8" else config.compute_dtype

    def numbers() -> Array:
        shape = (rows, config.kv_heads, columns, config.head_dim)
        return constrain(jnp.zeros(shape, kept), *AXES)

    def scales() -> Array | None:
        if dtype != "int8":
            return None
        return constrain(jnp.zeros((rows, config.kv_heads, columns)), *AXES[:-1])

    return tuple(KeyValues(numbers(), numbers(), scales(), scales()) for _ in range(config.layers))


@functools.cache
def cache_bytes(config: ModelConfig, rows: int, columns: int, dtype: str = "") -> int:
    """What `empty_cache` takes, of all devices together."""
    shapes = jax.eval_shape(lambda: empty_cache(config, rows, columns, dtype))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def stored(k: Array, v: Array, like: KeyValues) -> KeyValues:
    """k, v [N, S, K, h] of new tokens in the layout and precision of the cache, [N, K, S, h].

    In int8 each token of each head has a scale of its own: its largest number is 127.
    """
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    if like.key_scale is None:
        return KeyValues(k.astype(like.keys.dtype), v.astype(like.values.dtype))
    (k, k_scale), (v, v_scale) = _int8(k), _int8(v)
    return KeyValues(k, v, k_scale, v_scale)


def _int8(x: Array) -> tuple[Array, Array]:
    x = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x), axis=-1) / INT8_BOUND
    codes = jnp.round(x / jnp.where(scale > 0, scale, 1.0)[..., None])
    return codes.astype(jnp.int8), scale


def write_column(cache: KeyValues, new: KeyValues, column: Array) -> KeyValues:
    """Writes one token of every row, [N, K, 1, h], to a column."""
    return jax.tree.map(
        lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, column, axis=2), cache, new
    )


def columns(cache: KeyValues, start: Array | int, count: int) -> KeyValues:
    """`count` columns from `start` on."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, count, axis=2), cache)
