"""Rows whose tokens lie in the cache by their position, prompt and completion alike.

Where rows come and go at any time, what a row computes must not depend on when it came. In a ring
that all rows write together (kv_cache.py) the order of a row's keys, and with it the rounding of
its sums, follows from the step at which it began. Here token i of a row is in column i, so the
order is that of the row alone.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention.partial import KeyValues, Partial, attend_part, context, merge, nothing
from rljax.models.config import ModelConfig
from rljax.models.decoding import (
    OWN_LOOP,
    Decoder,
    by_head,
    by_kv_head,
    own_block,
    run_layers,
)
from rljax.models.kv_cache import Cache, columns, stored

# Queries of `whole_rows` whose scores are held at a time.
QUERY_BLOCK = 128


def decode_at(
    decoder: Decoder, tokens: Array, positions: Array, used: Array, cache: Cache
) -> tuple[Array, Cache]:
    """One more token for every row.

    Args:
        decoder: of the model.
        tokens: [N] i32.
        positions: [N] i32, tokens of the row before this one; from S on nothing is written.
        used: [] i32, columns that any row which matters has in use, this token included.
        cache: [N, K, S, h] of each layer.

    Returns:
        [N, D] normed hidden states, and the cache.
    """
    config, written = decoder.config, list(cache)

    def attend(index: int, q: Array, k: Array, v: Array) -> Array:
        written[index] = _write(written[index], stored(k, v, written[index]), positions)
        window = 0 if config.global_layers[index] else config.sliding_window
        part = _blocks(by_kv_head(q, config), written[index], positions, used, config, window)
        return by_head(context(part, q.dtype))

    hidden = run_layers(decoder, tokens[:, None], positions[:, None], attend)
    return hidden[:, 0], tuple(written)


def _write(cache: KeyValues, new: KeyValues, positions: Array) -> KeyValues:
    """Writes one token of every row, [N, K, 1, h], to its column."""
    rows = jnp.arange(len(positions))

    def put(old: Array, x: Array) -> Array:
        return old.at[rows, :, positions].set(x[:, :, 0], mode="drop")

    return jax.tree.map(put, cache, new)


def _blocks(
    q: Array, cache: KeyValues, positions: Array, used: Array, config: ModelConfig, window: int
) -> Partial:
    """The part over columns 0 to its position of each row, block by block from the first.

    Blocks that a row does not reach leave it as it is, to the bit: their weights are 0.
    """
    size = cache.keys.shape[2]
    block = own_block(size)

    def part(start: Array | int, keys: KeyValues) -> Partial:
        back = positions[:, None] - start - jnp.arange(block)
        seen = (back >= 0) & (back < window) if window else back >= 0
        return attend_part(q, keys, seen[:, None, None], config)

    if size == block:
        return part(0, cache)

    def turn(index: Array, found: Partial) -> Partial:
        start = index * block
        return merge(found, part(start, columns(cache, start, block)))

    with jax.named_scope(OWN_LOOP):
        return jax.lax.fori_loop(0, (used + block - 1) // block, turn, nothing(q))


def insert(cache: Cache, prompts: Cache, row: Array, slot: Array) -> Cache:
    """The cache with a prompt in one of its slots, from column 0 on.

    Args:
        cache: [N, K, S, h] of each layer.
        prompts: [B, K, P, h] of each layer, of `prefill`; columns beyond S hold no token.
        row: [] i32, which of the prompts.
        slot: [] i32.
    """

    def put(whole: Array, prompts: Array) -> Array:
        one = jax.lax.dynamic_slice_in_dim(prompts, row, 1)[:, :, : whole.shape[2]]
        return jax.lax.dynamic_update_slice(whole, one, (slot, *[0] * (whole.ndim - 1)))

    return jax.tree.map(put, cache, prompts)


def whole_rows(decoder: Decoder, tokens: Array) -> Array:
    """[N, S] i32, from the left, whatever follows a row's end -> [N, S, D] normed hidden states."""
    config, slots = decoder.config, tokens.shape[1]
    block = QUERY_BLOCK if slots % QUERY_BLOCK == 0 else slots
    positions = jnp.broadcast_to(jnp.arange(slots), tokens.shape)

    def attend(index: int, q: Array, k: Array, v: Array) -> Array:
        window = 0 if config.global_layers[index] else config.sliding_window
        keys = KeyValues(k.swapaxes(1, 2), v.swapaxes(1, 2))

        def some(start: Array) -> Array:
            back = (start + jnp.arange(block))[:, None] - jnp.arange(slots)
            seen = (back >= 0) & (back < window) if window else back >= 0
            seen = jnp.repeat(seen, config.heads // config.kv_heads, axis=0)
            queries = by_kv_head(jax.lax.dynamic_slice_in_dim(q, start, block, axis=1), config)
            return by_head(context(attend_part(queries, keys, seen, config), q.dtype), block)

        blocks = jax.lax.map(some, jnp.arange(0, slots, block))
        return blocks.swapaxes(0, 1).reshape(q.shape)

    return run_layers(decoder, tokens, positions, attend)
