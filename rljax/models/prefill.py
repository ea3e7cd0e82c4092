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

from rljax.models.attention.partial import KeyValues, Partial, attend_part, context, merge
from rljax.models.config import ModelConfig
from rljax.models.decoding import (
    Decoder,
    PromptCache,
    by_head,
    by_kv_head,
    by_shard,
    chunk_part,
    joined,
    run_layers,
)
from rljax.models.kv_cache import Cache, columns, empty_cache, stored

# Columns of a chunk at most.
CHUNK_COLUMNS = 256

# Names of the loops in compiled programs: over chunks, and over the chunks before one.
PREFILL, EARLIER = "prefill", "earlier_chunks"


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
        """A cut into chunks of about so many tokens in each shard."""
        of_shard = prompts // shards
        chunks = math.ceil(slots / CHUNK_COLUMNS)
        size = math.ceil(slots / chunks)
        blocks = math.ceil(of_shard * size / max(tokens, size))
        return cls(shards, of_shard, blocks, math.ceil(of_shard / blocks), chunks, size)


def chunk_counts(prompts: int, slots: int, shards: int, tokens: int) -> tuple[int, int]:
    """Blocks of prompts and chunks of each, as `prefill` cuts B prompts [B, P]."""
    cut = _Cut.of(prompts, slots, shards, tokens)
    return cut.blocks, cut.chunks


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
        shards: number of shards of the rows; divides B.
        chunk_tokens: about how many tokens of each shard are computed at a time.
        cache_dtype: as in `empty_cache`.

    Returns:
        The cache, and the normed hidden states [B, D] of the last tokens.
    """
    cut = _Cut.of(*prompts.shape, shards, chunk_tokens)
    slots = prompts.shape[1]
    from_left = jnp.arange(cut.chunks * cut.columns) + slots - lengths[:, None]
    tokens = jnp.take_along_axis(prompts, jnp.minimum(from_left, slots - 1), axis=1)
    tokens, lengths = by_shard(tokens, shards), by_shard(lengths, shards)
    order = jnp.broadcast_to(jnp.arange(cut.prompts), lengths.shape)
    if cut.blocks > 1:
        order = jnp.argsort(-lengths, axis=1)

    def sort(x: Array) -> Array:
        x = jax.vmap(lambda x, order: x[order])(x, order)
        fill = cut.blocks * cut.rows - cut.prompts
        return jnp.pad(x, [(0, 0), (0, fill)] + [(0, 0)] * (x.ndim - 2))

    def unsort(x: Array) -> Array:
        x = by_shard(x, shards)
        return joined(jax.vmap(lambda x, place: x[place])(x, jnp.argsort(order, axis=1)))

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
        return _compute(decoder, tokens, lengths, _Part(cut, 0, 0), cache, hidden)

    def chunks_of(block: Array) -> Array:
        of_block = jax.lax.dynamic_slice_in_dim(lengths, block * cut.rows, cut.rows, axis=1)
        return (of_block.max() + cut.columns - 1) // cut.columns

    def more(state: tuple) -> Array:
        return state[0] < cut.blocks

    def one(state: tuple) -> tuple:
        block, chunk, cache, hidden = state
        part = _Part(cut, block, chunk)
        cache, hidden = _compute(decoder, tokens, lengths, part, cache, hidden)
        through = chunk + 1 >= chunks_of(block)
        following = jnp.where(through, block + 1, block), jnp.where(through, 0, chunk + 1)
        return *following, cache, hidden

    state = (jnp.int32(0), jnp.int32(0), cache, hidden)
    with jax.named_scope(PREFILL):
        return jax.lax.while_loop(more, one, state)[2:]


class _Part(NamedTuple):
    """One chunk of one block of each shard."""

    cut: _Cut
    block: Array | int
    chunk: Array | int

    @property
    def first(self) -> Array | int:
        """The first column."""
        return self.chunk * self.cut.columns

    def rows_of(self, x: Array) -> Array:
        """[X * B', ...] -> [X * rows, ...], the rows of the block."""
        cut = self.cut
        x = by_shard(x, cut.shards)
        return joined(jax.lax.dynamic_slice_in_dim(x, self.block * cut.rows, cut.rows, axis=1))

    def put(self, whole: Array, x: Array, start: tuple) -> Array:
        """The inverse: `whole` with x [X * rows, ...] written at `start` of the further axes."""
        cut = self.cut
        at = (0, self.block * cut.rows, *start)
        split, x = by_shard(whole, cut.shards), by_shard(x, cut.shards)
        return joined(jax.lax.dynamic_update_slice(split, x, at))


def _compute(
    decoder: Decoder, tokens: Array, lengths: Array, part: _Part, cache: Cache, hidden: Array
) -> tuple[Cache, Array]:
    """Computes a part: its keys and values, and the hidden states of the prompts that end in it."""
    cut, first, written = part.cut, part.first, list(cache)
    lengths = part.rows_of(lengths.reshape(-1))
    positions = jnp.broadcast_to(first + jnp.arange(cut.columns), (len(lengths), cut.columns))
    valid = positions < lengths[:, None]

    def attend(index: int, q: Array, k: Array, v: Array) -> Array:
        mixed = _attend(decoder.config, index, q, k, v, valid, part, written[index])
        new = stored(k, v, written[index])
        written[index] = jax.tree.map(
            lambda whole, x: part.put(whole, x, (0, first, *[0] * (x.ndim - 3))),
            written[index],
            new,
        )
        return mixed

    rows = part.rows_of(tokens.reshape(-1, tokens.shape[2]))
    columns_of = jax.lax.dynamic_slice_in_dim(rows, first, cut.columns, axis=1)
    states = run_layers(decoder, columns_of, positions, attend)
    last = jnp.clip(lengths - 1 - first, 0, cut.columns - 1)
    ends = (lengths > first) & (lengths <= first + cut.columns)
    found = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
    found = jnp.where(ends[:, None], found, part.rows_of(hidden))
    return tuple(written), part.put(hidden, found, (0,))


def _attend(
    config: ModelConfig,
    index: int,
    q: Array,
    k: Array,
    v: Array,
    valid: Array,
    part: _Part,
    cache: KeyValues,
) -> Array:
    """What the tokens of a chunk see: [N, S, H, h].

    Args:
        config: of the model.
        index: of the layer.
        q, k, v: of the chunk.
        valid: [N, S] bool, tokens of the chunk.
        part: which chunk.
        cache: of the layer, where the chunks before this one are.
    """
    columns_of = part.cut.columns
    window = 0 if config.global_layers[index] else config.sliding_window
    slots = jnp.arange(columns_of)
    back = slots[:, None] - slots
    causal = (back >= 0) & valid[:, None]
    found = chunk_part(q, k, v, causal & (back < window) if window else causal, config)
    if part.cut.chunks > 1:
        before, q_rows = jax.tree.map(part.rows_of, cache), by_kv_head(q, config)

        def earlier(number: Array, found: Partial) -> Partial:
            start = number * columns_of
            # What a shorter prompt has here does not matter: it has ended before this chunk.
            seen = jnp.ones((1, 1, 1, columns_of), bool)
            if window:
                near = back + part.first - start < window
                seen = jnp.repeat(near, config.heads // config.kv_heads, axis=0)[None, None]
            keys = columns(before, start, columns_of)
            return merge(found, attend_part(q_rows, keys, seen, config))

        with jax.named_scope(EARLIER):
            found = jax.lax.fori_loop(0, part.chunk, earlier, found)
    return by_head(context(found, q.dtype), columns_of)
