"""Prompts through the trunk, once each, in chunks of a few rows and columns.

Rows are sorted by length and cut into blocks, blocks into chunks of columns. A chunk is computed
only if some prompt of its block reaches into it, so prompts of different length waste no more than
the rest of their last chunk; and no more than a chunk's activations are held at a time.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention.partial import attend_part, context, merge
from rljax.models.decoding import Decoder, PromptCache, by_head, by_kv_head, chunk_part, run_layers
from rljax.models.kv_cache import Cache, columns, empty_cache, stored

# Columns of a chunk at most.
CHUNK_COLUMNS = 256


class _Cut(NamedTuple):
    """How the prompts of a shard are cut; all static."""

    shards: int  # X
    prompts: int  # B of a shard
    blocks: int
    rows: int  # of a block of a shard; blocks * rows >= B
    chunks: int
    columns: int  # of a chunk; chunks * columns >= P

    @classmethod
    def of(cls, prompts: int, slots: int, shards: int, tokens: int) -> "_Cut":
        """For chunks of about so many tokens in each shard."""
        of_shard = prompts // shards
        chunks = math.ceil(slots / CHUNK_COLUMNS)
        size = math.ceil(slots / chunks)
        blocks = math.ceil(of_shard * size / max(tokens, size))
        return cls(shards, of_shard, blocks, math.ceil(of_shard / blocks), chunks, size)


def prefill(
    decoder: Decoder,
    prompts: Array,
    lengths: Array,
    *,
    shards: int,
    chunk_tokens: int,
    cache_dtype: str = "",
) -> tuple[PromptCache, Array]:
    """Keys and values of B prompts, and what follows their last token.

    Args:
        decoder: of the model.
        prompts: [B, P] i32, padded on the left.
        lengths: [B] i32, tokens of each, at least 1.
        shards: of the rows; divides B.
        chunk_tokens: of each shard, computed at a time, about.
        cache_dtype: as of `empty_cache`.

    Returns:
        The cache, and the normed hidden states [B, D] of the last tokens.
    """
    cut = _Cut.of(*prompts.shape, shards, chunk_tokens)
    slots = prompts.shape[1]
    from_left = jnp.arange(cut.chunks * cut.columns) + slots - lengths[:, None]
    tokens = jnp.take_along_axis(prompts, jnp.minimum(from_left, slots - 1), axis=1)
    by_shard = lambda x: x.reshape(shards, cut.prompts, *x.shape[1:])  # noqa: E731
    tokens, lengths = by_shard(tokens), by_shard(lengths)
    order = jnp.broadcast_to(jnp.arange(cut.prompts), lengths.shape)
    if cut.blocks > 1:
        order = jnp.argsort(-lengths, axis=1)

    def sort(x: Array) -> Array:
        x = jax.vmap(lambda x, order: x[order])(x, order)
        fill = cut.blocks * cut.rows - cut.prompts
        return jnp.pad(x, [(0, 0), (0, fill)] + [(0, 0)] * (x.ndim - 2))

    def unsort(x: Array) -> Array:
        x = x.reshape(shards, cut.blocks * cut.rows, *x.shape[1:])
        x = jax.vmap(lambda x, place: x[place])(x, jnp.argsort(order, axis=1))
        return x.reshape(shards * cut.prompts, *x.shape[2:])

    cache, hidden = _all_chunks(decoder, sort(tokens), sort(lengths), cut, cache_dtype)
    if cut.blocks > 1 or cut.rows > cut.prompts:
        cache, hidden = jax.tree.map(unsort, (cache, hidden))
    return PromptCache(cache, lengths.reshape(-1)), hidden


def _all_chunks(
    decoder: Decoder, tokens: Array, lengths: Array, cut: _Cut, cache_dtype: str
) -> tuple[Cache, Array]:
    """tokens [X, B', P'] from the left, lengths [X, B'] descending -> cache, last hidden."""
    config = decoder.config
    rows = cut.shards * cut.blocks * cut.rows
    cache = empty_cache(config, rows, cut.chunks * cut.columns, cache_dtype)
    hidden = jnp.zeros((rows, config.width), config.compute_dtype)
    if cut.blocks * cut.chunks == 1:
        return _chunk(decoder, tokens, lengths, cut, 0, 0, cache, hidden)

    def chunks_of(block: Array) -> Array:
        of_block = jax.lax.dynamic_slice_in_dim(lengths, block * cut.rows, cut.rows, axis=1)
        return (of_block.max() + cut.columns - 1) // cut.columns

    def more(state: tuple) -> Array:
        return state[0] < cut.blocks

    def one(state: tuple) -> tuple:
        block, chunk, cache, hidden = state
        cache, hidden = _chunk(decoder, tokens, lengths, cut, block, chunk, cache, hidden)
        through = chunk + 1 >= chunks_of(block)
        following = jnp.where(through, block + 1, block), jnp.where(through, 0, chunk + 1)
        return *following, cache, hidden

    state = (jnp.int32(0), jnp.int32(0), cache, hidden)
    return jax.lax.while_loop(more, one, state)[2:]


def _chunk(
    decoder: Decoder,
    tokens: Array,
    lengths: Array,
    cut: _Cut,
    block: Array | int,
    chunk: Array | int,
    cache: Cache,
    hidden: Array,
) -> tuple[Cache, Array]:
    """One chunk of one block of each shard, which sees the chunks before it."""
    config, written = decoder.config, list(cache)
    first_row, first = block * cut.rows, chunk * cut.columns

    def of_block(x: Array) -> Array:
        """[X * B', ...] -> [X * rows, ...]"""
        x = x.reshape(cut.shards, cut.blocks * cut.rows, *x.shape[1:])
        x = jax.lax.dynamic_slice_in_dim(x, first_row, cut.rows, axis=1)
        return x.reshape(-1, *x.shape[2:])

    def put(whole: Array, x: Array, start: tuple) -> Array:
        """The inverse, for x [X * rows, ...] which begins at `start` of the axes after the rows."""
        split = whole.reshape(cut.shards, cut.blocks * cut.rows, *whole.shape[1:])
        x = x.reshape(cut.shards, cut.rows, *x.shape[1:])
        at = (0, first_row, *start)
        return jax.lax.dynamic_update_slice(split, x, at).reshape(whole.shape)

    lengths = of_block(lengths.reshape(-1))
    slots = jnp.arange(cut.columns)
    positions = jnp.broadcast_to(first + slots, (len(lengths), cut.columns))
    valid = positions < lengths[:, None]
    causal = (slots[:, None] >= slots) & valid[:, None]

    def attend(index: int, q: Array, k: Array, v: Array) -> Array:
        window = 0 if config.global_layers[index] else config.sliding_window
        near = causal & (slots[:, None] - slots < window) if window else causal
        part = chunk_part(q, k, v, near, config)
        before = jax.tree.map(of_block, written[index])
        q = by_kv_head(q, config)
        group = config.heads // config.kv_heads

        def earlier(number: Array, found):
            start = number * cut.columns
            seen = jnp.ones((1, 1, 1, cut.columns), bool)  # those of longer prompts are whole
            if window:
                back = first + slots[:, None] - start - slots
                seen = jnp.repeat(back < window, group, axis=0)[None, None]
            return merge(found, attend_part(q, columns(before, start, cut.columns), seen, config))

        if cut.chunks > 1:
            part = jax.lax.fori_loop(0, chunk, earlier, part)
        new = stored(k, v, written[index])
        written[index] = jax.tree.map(
            lambda whole, x: put(whole, x, (0, first, *[0] * (x.ndim - 3))), written[index], new
        )
        return by_head(context(part, q.dtype), cut.columns)

    block_tokens = of_block(tokens.reshape(-1, tokens.shape[2]))
    chunk_tokens = jax.lax.dynamic_slice_in_dim(block_tokens, first, cut.columns, axis=1)
    states = run_layers(decoder, chunk_tokens, positions, attend)
    last = jnp.clip(lengths - 1 - first, 0, cut.columns - 1)
    ends = (lengths > first) & (lengths <= first + cut.columns)
    found = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
    found = jnp.where(ends[:, None], found, of_block(hidden))
    return tuple(written), put(hidden, found, (0,))
