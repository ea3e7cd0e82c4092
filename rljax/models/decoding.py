"""The trunk, a few tokens of every row at a time, on the caches of kv_cache.py.

What the queries of a token attend to comes in parts (attention/partial.py):

    prompt   computed once, read by all rows that continue it
    own      what the row has written since, in its ring of columns
    self     the tokens that are being computed
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention.partial import (
    KeyValues,
    Partial,
    attend_part,
    attend_self,
    context,
    merge,
    nothing,
)
from rljax.models.attention.ragged import ragged, resolve_own_kernel
from rljax.models.attention.select import platform
from rljax.models.block import Block
from rljax.models.config import ModelConfig
from rljax.models.kv_cache import Cache, columns, stored, write_column
from rljax.models.network import Network, Params
from rljax.models.products import embed
from rljax.models.rotary import Rotary, rotary
from rljax.models.transformer import Transformer
from rljax.parallel.rules import constrain

# Columns of the own cache that are read at a time: a step reads those in use, rounded up.
OWN_BLOCK = 64

# Names of the loops in compiled programs: over blocks of the own cache, and over tiles.
OWN_LOOP, TILES_LOOP = "own_blocks", "tiles"


class Decoder(NamedTuple):
    """A trunk with one module for each layer (Network.bind_layers)."""

    model: Transformer
    blocks: tuple[Block, ...]
    rotations: Rotary  # [S, h/2] of positions 0 .. S-1: sines are not computed again in every step

    @classmethod
    def of(cls, network: Network, unstacked: Params, slots: int) -> "Decoder":
        """A decoder of parameters from `Network.unstack`, for sequences of up to `slots` tokens."""
        table = rotary(network.config, jnp.arange(slots)[None])
        model, blocks = network.bind_layers(unstacked)
        return cls(model, blocks, jax.tree.map(lambda x: x[0], table))

    @property
    def config(self) -> ModelConfig:
        """The model's config."""
        return self.model.config


class PromptCache(NamedTuple):
    """Keys and values of prompts, which begin in column 0."""

    layers: Cache  # [B, K, P, h]
    lengths: Array  # [B] i32


class Tiles(NamedTuple):
    """Rows sorted into tiles of one prompt each, so that its keys are read once for a tile.

    The leading axis X counts the shards of rows; a tile has rows of one shard only. A tile that is
    not full repeats some row; tiles from `count` on are not used.
    """

    prompt: Array  # [X, M] i32, which prompt of the shard
    rows: Array  # [X, M, g] i32, which rows of the shard
    place: Array  # [X, W] i32, where a row is in the flattened [M * g]
    count: Array  # [] i32, the largest number of tiles in use of any shard
    per_turn: int  # tiles that are computed at a time; divides M


class Own(NamedTuple):
    """Where the tokens of rows lie in their own cache."""

    column: Array  # [] i32, the column of the current token
    age: Array  # [N] i32, tokens before it, in the columns before it
    used: Array  # [] i32, columns in use by any row that matters, the current one included


# (layer, q [N,S,H,h], k [N,S,K,h], v [N,S,K,h]) -> context [N,S,H,h]
Attend = Callable[[int, Array, Array, Array], Array]


def run_layers(decoder: Decoder, tokens: Array, positions: Array, attend: Attend) -> Array:
    """tokens and positions [N, S] i32 -> normed hidden states [N, S, D]."""
    model, config = decoder.model, decoder.config
    x = embed(model.embedding[...], tokens, config.compute_dtype)
    x = x * jnp.asarray(config.embedding_scale, x.dtype) if config.embedding_scale != 1 else x
    x = constrain(x, "batch", None, "width")
    look_up = functools.partial(jnp.take, indices=positions, axis=0, mode="clip")
    rotations = jax.tree.map(look_up, decoder.rotations)
    present = jnp.ones(tokens.shape, bool)
    for index, block in enumerate(decoder.blocks):
        rotation = rotations.global_layers
        if rotations.local_layers is not None and not config.global_layers[index]:
            rotation = rotations.local_layers

        def seen(q: Array, k: Array, v: Array, index: int = index) -> Array:
            return attend(index, q, k, v)

        x, _ = block(x, rotation, seen, present)
        x = constrain(x, "batch", None, "width")
    return model.final_norm(x)


def decode(
    decoder: Decoder,
    tokens: Array,
    positions: Array,
    prompts: PromptCache,
    tiles: Tiles | None,
    own: Own,
    cache: Cache,
) -> tuple[Array, Cache]:
    """One more token for every row, written to the current column of its own cache.

    Args:
        decoder: of the model.
        tokens: [N] i32.
        positions: [N] i32, in the row's own sequence.
        prompts: the caches of B prompts.
        tiles: which rows belong to which prompt; None: N / B rows each, in order.
        own: where the rows' tokens lie.
        cache: [N, K, C, h] of each layer.

    Returns:
        [N, D] normed hidden states, and the cache.
    """
    config, written = decoder.config, list(cache)

    def attend(index: int, q: Array, k: Array, v: Array) -> Array:
        written[index] = write_column(written[index], stored(k, v, written[index]), own.column)
        window = 0 if config.global_layers[index] else config.sliding_window
        q = by_kv_head(q, config)
        shared = prompt_part(q, positions, prompts, index, tiles, config, window)
        part = own_part(q, written[index], own, config, window)
        return by_head(context(merge(shared, part), q.dtype))

    hidden = run_layers(decoder, tokens[:, None], positions[:, None], attend)
    return hidden[:, 0], tuple(written)


def peek(
    decoder: Decoder,
    candidates: Array,
    positions: Array,
    prompts: PromptCache,
    tiles: Tiles | None,
    own: Own,
    cache: Cache,
) -> Array:
    """Hidden states [N, k, D] of k tokens that might come next, each by itself; nothing is written.

    Arguments as in `decode`, and candidates [N, k] i32 in place of tokens.
    """
    config, count = decoder.config, candidates.shape[1]

    def attend(index: int, q: Array, k: Array, v: Array) -> Array:
        window = 0 if config.global_layers[index] else config.sliding_window
        group = config.heads // config.kv_heads
        q = by_kv_head(q, config)
        shared = prompt_part(q, positions, prompts, index, tiles, config, window)
        part = own_part(q, cache[index], own, config, window, current=False)
        k, v = (jnp.repeat(x.swapaxes(1, 2), group, axis=2) for x in (k, v))
        itself = attend_self(q, k, v, config)
        return by_head(context(merge(merge(shared, part), itself), q.dtype), count)

    places = jnp.broadcast_to(positions[:, None], candidates.shape)
    return run_layers(decoder, candidates, places, attend)


def by_kv_head(q: Array, config: ModelConfig) -> Array:
    """[N, S, H, h] -> [N, K, S * H/K, h]: the queries that read the same keys."""
    rows, steps, heads, size = q.shape
    q = q.reshape(rows, steps, config.kv_heads, heads // config.kv_heads, size)
    return q.swapaxes(1, 2).reshape(rows, config.kv_heads, -1, size)


def by_head(mixed: Array, steps: int = 1) -> Array:
    """The inverse of `by_kv_head`: [N, K, S * H/K, h] -> [N, S, H, h]."""
    rows, kv_heads, _, size = mixed.shape
    mixed = mixed.reshape(rows, kv_heads, steps, -1, size).swapaxes(1, 2)
    return mixed.reshape(rows, steps, -1, size)


def own_part(
    q: Array,
    cache: KeyValues,
    own: Own,
    config: ModelConfig,
    window: int,
    *,
    current: bool = True,
) -> Partial:
    """The part over a row's own tokens: q [N, K, R, h], cache [N, K, C, h].

    With `current` the current column holds the token itself, else nothing yet.

    Raises:
        ValueError: where `config.decode_attention` names a kernel that cannot serve.
    """
    rows, _, size, _ = cache.keys.shape
    if resolve_own_kernel(config, platform(), rows, size, cache.keys.dtype) == "ragged":
        return ragged(
            q, cache, own.column, own.age, own.used, config, window=window, current=current
        )
    return _own_blocks(q, cache, own, config, window, current=current)


def _own_blocks(
    q: Array,
    cache: KeyValues,
    own: Own,
    config: ModelConfig,
    window: int,
    *,
    current: bool,
) -> Partial:
    """`own_part` by XLA: whole blocks of columns, from the current one back to the oldest used."""
    size = cache.keys.shape[2]
    block = own_block(size)

    def part(start: Array | int, keys: KeyValues) -> Partial:
        back = (own.column - start - jnp.arange(keys.keys.shape[2])) % size
        seen = (back <= own.age[:, None]) & (back >= (0 if current else 1))
        if window:
            seen &= back < window
        return attend_part(q, keys, seen[:, None, None], config)

    if size == block:
        return part(0, cache)
    last = own.column // block
    reach = jnp.minimum(own.used, window) if window else own.used
    count = jnp.minimum(last - (own.column - reach + 1) // block + 1, size // block)

    def turn(index: Array, found: Partial) -> Partial:
        start = (last - index) % (size // block) * block
        return merge(found, part(start, columns(cache, start, block)))

    with jax.named_scope(OWN_LOOP):
        return jax.lax.fori_loop(0, count, turn, nothing(q))


def own_block(size: int) -> int:
    """Columns of a block of a cache of `size` columns."""
    return OWN_BLOCK if size % OWN_BLOCK == 0 else size


def prompt_part(
    q: Array,
    positions: Array,
    prompts: PromptCache,
    layer: int,
    tiles: Tiles | None,
    config: ModelConfig,
    window: int,
) -> Partial:
    """The part over the prompts: q [N, K, R, h] -> parts [N, K, R].

    The rows of a prompt, or of a tile, are put side by side: one product with its keys.
    """
    cache = prompts.layers[layer]
    if tiles is None:
        count = len(prompts.lengths)
        side_by_side = q.reshape(count, -1, *q.shape[1:])
        places = positions.reshape(count, -1)
        part = _shared(side_by_side, places, cache, prompts.lengths, config, window)
        return jax.tree.map(lambda x: x.reshape(len(q), *x.shape[2:]), part)
    return _tiled(q, positions, cache, prompts.lengths, tiles, config, window)


def _shared(
    q: Array,
    positions: Array,
    cache: KeyValues,
    lengths: Array,
    config: ModelConfig,
    window: int,
) -> Partial:
    """q [B, G, K, R, h], positions [B, G], cache [B, K, P, h] -> parts [B, G, K, R]."""
    prompts, rows, kv_heads, queries, size = q.shape
    slots = jnp.arange(cache.keys.shape[2])
    seen = (slots < lengths[:, None])[:, None, None]
    if window:
        near = positions[..., None] - slots < window
        seen = seen & jnp.repeat(near, queries, axis=1)[:, None]
    together = q.swapaxes(1, 2).reshape(prompts, kv_heads, rows * queries, size)
    part = attend_part(together, cache, seen, config)

    def apart(x: Array) -> Array:
        x = x.reshape(prompts, kv_heads, rows, queries, *x.shape[3:]).swapaxes(1, 2)
        return constrain(x, "batch", None, "kv_heads", *[None] * (x.ndim - 3))

    return jax.tree.map(apart, part)


def _tiled(
    q: Array,
    positions: Array,
    cache: KeyValues,
    lengths: Array,
    tiles: Tiles,
    config: ModelConfig,
    window: int,
) -> Partial:
    """`_shared` for rows in any order: some tiles at a time, as many as are in use."""
    shards, total, width = tiles.rows.shape
    turn_size = tiles.per_turn
    split = functools.partial(by_shard, shards=shards)
    q_rows, places, cache, lengths = jax.tree.map(split, (q, positions, cache, lengths))

    def turn(index: Array, found: Partial) -> Partial:
        def cut(x: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, index * turn_size, turn_size, axis=1)

        prompt, rows = cut(tiles.prompt), cut(tiles.rows)
        keys, their_lengths = jax.tree.map(lambda x: joined(pick(x, prompt)), (cache, lengths))
        queries, their_places = joined(pick(q_rows, rows)), joined(pick(places, rows))
        part = _shared(queries, their_places, keys, their_lengths, config, window)

        def put(whole: Array, x: Array) -> Array:
            x = x.reshape(shards, turn_size, *x.shape[1:])
            return jax.lax.dynamic_update_slice_in_dim(whole, x, index * turn_size, axis=1)

        return jax.tree.map(put, found, part)

    shape = (shards, total, width, *q.shape[1:3])
    empty = jnp.zeros(shape, jnp.float32)
    found = Partial(empty, empty, jnp.zeros((*shape, q.shape[3]), jnp.float32))
    turns = (tiles.count + turn_size - 1) // turn_size
    with jax.named_scope(TILES_LOOP):
        found = jax.lax.fori_loop(0, turns, turn, found)
    flat = jax.tree.map(lambda x: x.reshape(shards, total * width, *x.shape[3:]), found)
    return jax.tree.map(lambda x: joined(pick(x, tiles.place)), flat)


def by_shard(x: Array, shards: int) -> Array:
    """[X * A, ...] -> [X, A, ...]: rows, sorted by the shard that has them."""
    # Not -1, which is undefined for an array without columns.
    return x.reshape(shards, len(x) // shards, *x.shape[1:])


def joined(x: Array) -> Array:
    """The inverse of `by_shard`: [X, A, ...] -> [X * A, ...]."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def pick(x: Array, index: Array) -> Array:
    """x [X, A, ...], index [X, ...] i32 -> x[shard, index], each shard for itself."""
    if len(x) == 1:
        return x[0][index[0]][None]
    return jax.vmap(lambda x, index: x[index])(x, index)


def chunk_part(q: Array, k: Array, v: Array, seen: Array, config: ModelConfig) -> Partial:
    """The part over the chunk itself: q [N,S,H,h], k and v [N,S,K,h], seen [N,S,S] bool."""
    group = config.heads // config.kv_heads
    kv = KeyValues(k.swapaxes(1, 2), v.swapaxes(1, 2))
    return attend_part(by_kv_head(q, config), kv, jnp.repeat(seen, group, axis=1)[:, None], config)


def check_decodable(configs: Sequence[ModelConfig]) -> None:
    """Raises ValueError for networks that cannot write token by token."""
    for config in configs:
        if not config.causal:
            raise ValueError(
                "causal=False: a bidirectional model is not decoded token by token; use masked "
                "diffusion (sampling/diffusion.py, config.model.causal)."
            )
