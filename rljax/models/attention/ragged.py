"""Attention of a row to its own ring of columns on TPU: only the blocks in use are read.

XLA's form (`own_part` in models/decoding.py) reads as many blocks of every row as the longest row
has in use, in a loop of small products. Here a Pallas kernel goes through a list of (row, block)
pairs that holds the blocks in use and nothing else; the length of the list is the size of the grid.
With blocks of 2 columns, a ring of 8, the current column 5 and ages 0, 3 and 7:

    row     0  1  1  2  2  2  2
    block   2  2  1  2  1  0  3      from the newest to the oldest

While one block is computed the next one is on its way from memory, across rows too. A block holds
all key-value heads of a device: `heads` x `columns` keys, multiplied with the queries of all heads,
of whose products a mask keeps those of the right head. With one or few queries a head that costs
nothing: the matrix unit takes 128 queries in the time of one.

The list is cut between two rows, at about half, so that the two cores of a chip (v4, v5p) share it;
on a chip of one core they are two halves of one loop.

Kernels that come with JAX do not serve here. `pallas.ops.tpu.paged_attention` and
`ragged_paged_attention` could find the blocks of a ring through their tables of pages, but return
only the normalised mix, which cannot be merged with the part over the prompt, and mask only the end
of a row: a ring is seen from the middle of its oldest block to the middle of its newest. The second
one also wants keys and values interleaved, head by head, in one array.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from rljax.models.attention.dense import soft_cap
from rljax.models.attention.partial import NOTHING, KeyValues, Partial
from rljax.models.config import ModelConfig
from rljax.parallel.rules import partition_spec, row_shards

# Keys of a block, in bytes. From the least on, a block takes as long to arrive (v5e: 0.3 us) as the
# bookkeeping of a step takes; the most hides the latency of memory. In between: a quarter of a row.
LEAST_BYTES, MOST_BYTES = 128 * 1024, 640 * 1024
LANES = 128
# Name of the kernel in compiled programs.
KERNEL = "ragged_decode"
# Largest length of the list of blocks: it lies in scalar memory, of which a core has 1 MiB.
MOST_BLOCKS = 64 * 1024


def ragged(
    q: Array,
    cache: KeyValues,
    column: Array,
    age: Array,
    used: Array,
    config: ModelConfig,
    *,
    window: int,
    current: bool = True,
    interpret: bool = False,
) -> Partial:
    """The part over the rows' own tokens, split over the mesh by rows and key-value heads.

    Args:
        q: [N, K, R, h], queries of each row and key-value head.
        cache: [N, K, C, h] of one layer.
        column: [] i32, the column of the current token.
        age: [N] i32, tokens of the row before it, in the columns before it.
        used: [] i32, columns in use by any row that matters, the current one included. Rows that
            are older see no more than these.
        config: for the scale of the scores and their soft-cap.
        window: columns that a query sees at most, the current one included; 0: all.
        current: whether the current column holds the token itself, else nothing yet.
        interpret: emulates the kernel, on any platform.

    Returns:
        Parts [N, K, R] to be merged (partial.py); a row that sees nothing has `total` 0.

    On TPU it has to be called inside `jax.jit`.
    """
    kernel = functools.partial(
        _on_one_device, config=config, window=window, current=current, interpret=interpret
    )
    if jax.sharding.get_abstract_mesh().empty:
        return kernel(q, cache, column, age, used)
    whole = partition_spec(())
    of_query = partition_spec(("batch", "kv_heads", None))
    # check_vma: the kernel's outputs do not say over which axes of the mesh they vary.
    return jax.shard_map(
        kernel,
        in_specs=(
            _head_spec(q),
            jax.tree.map(_head_spec, cache),
            whole,
            partition_spec(("batch",)),
            whole,
        ),
        out_specs=Partial(of_query, of_query, _head_spec(q)),
        check_vma=False,
    )(q, cache, column, age, used)


def _head_spec(x: Array) -> PartitionSpec:
    """How x [N, K, ...] is split: by rows and key-value heads."""
    return partition_spec(("batch", "kv_heads", *[None] * (x.ndim - 2)))


def resolve_own_kernel(
    config: ModelConfig, platform: str, rows: int, columns: int, dtype: jnp.dtype
) -> str:
    """The kernel of the part over a row's own tokens: dense or ragged.

    `auto` takes ragged where the compiler expects it to be faster, and memory stays the same:

        on TPU, for heads of a multiple of 128 numbers, and rings of 128 columns or more

    Narrower heads are padded to 128 in the row-major cache that the kernel reads; XLA by itself
    would lay columns along the lanes instead. Figures of `python -m
    rljax.benchmarks.decode_attention`, microseconds for one layer and one token of every row, with
    8 key-value heads of 128 numbers in bfloat16, two queries each, without a window; "1/4 - 1": a
    quarter of the rows each have 1/4, 1/2, 3/4 and all of their ring in use:

                               v5e              v5p
        rows  columns  in use  dense   ragged   dense   ragged
          64      512  1         526      176     301       71
                       1/4       201       94     120       44
                       1/4 - 1   526      146     301       61
          64     2048  1        2082      667    1175      235
                       1/4       590      258     338       98
                       1/4 - 1  2082      483    1175      173
          64     8192  1        8308     2632    4667      890
                       1/4      2147      750    1211      262
                       1/4 - 1  8308     1712    4667      583
         256      512  1        1638      669     687      236
                       1/4       624      342     265      127
         256     2048  1        6503     2635    2714      891
                       1/4      1840      998     772      345
         256     8192  1       25965    10502   10819     3515
                       1/4      6706     2972    2798     1006
           8       64  1          16       13      15       17

    These figures are estimates: nothing here has been timed on a TPU.

    Args:
        config: of the model.
        platform: what is compiled for (select.py).
        rows: N, of all devices together.
        columns: C of the ring.
        dtype: of the keys in the cache.

    Raises:
        ValueError: where `config.decode_attention` names one that cannot serve.
    """
    refusal = _what_ragged_cannot(config, platform, rows, columns, dtype)
    if config.decode_attention == "auto":
        suits = config.head_dim % LANES == 0 and columns >= LANES
        return "ragged" if suits and not refusal else "dense"
    if config.decode_attention == "ragged" and refusal:
        raise ValueError(
            f"decode_attention='ragged' cannot be used here: {refusal}; 'auto' takes the best that "
            "can (config.model.decode_attention)."
        )
    return config.decode_attention


def _what_ragged_cannot(
    config: ModelConfig, platform: str, rows: int, columns: int, dtype: jnp.dtype
) -> str:
    """Why the kernel cannot serve; "" where it can."""
    if platform != "tpu":
        return f"it runs on TPU, not on {platform}"
    tensor = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    block = block_columns(config.kv_heads // tensor, columns, config.head_dim, dtype)
    rows //= row_shards()
    if rows * (columns // block) > MOST_BLOCKS:
        return (
            f"{rows} rows of {columns // block} blocks on a device are more than the {MOST_BLOCKS} "
            "blocks whose list scalar memory holds (config.sampler.slots: rows at a time)"
        )
    return ""


def block_columns(heads: int, columns: int, head_dim: int, dtype: jnp.dtype) -> int:
    """Columns of a block: a divisor of `columns` that the tiles of the memory allow.

    Args:
        heads: key-value heads of a device.
        columns: C of the ring.
        head_dim: h.
        dtype: of the keys.
    """
    item = jnp.dtype(dtype).itemsize
    a_column = heads * math.ceil(head_dim / LANES) * LANES * item
    wanted = min(max(columns // 4 * a_column, LEAST_BYTES), MOST_BYTES) // a_column
    # Scales of int8 keys lie along the lanes.
    tile = LANES if item == 1 else 32 // item
    fits = [size for size in range(tile, columns + 1, tile) if columns % size == 0]
    fits = [size for size in fits if size <= max(wanted, tile)] or [columns]
    lanes_filled = [size for size in fits if size % LANES == 0 and 2 * size > fits[-1]]
    return (lanes_filled or fits)[-1]


class _Shape(NamedTuple):
    """The sizes of a call, all static."""

    rows: int
    heads: int  # K
    queries: int  # R
    head_dim: int
    columns: int  # of the ring
    block: int  # columns of a block
    blocks: int  # of a row

    @classmethod
    def of(cls, q: Array, cache: KeyValues) -> "_Shape":
        columns = cache.keys.shape[2]
        block = block_columns(q.shape[1], columns, q.shape[3], cache.keys.dtype)
        return cls(*q.shape, columns, block, columns // block)


class _List(NamedTuple):
    """The blocks in use, row by row, in two parts."""

    entries: Array  # [N * blocks] i32, row * blocks + block
    bounds: Array  # [3] i32, or [2] where there is one row: where the parts begin and end
    steps: Array  # [] i32, of the longer part


def _list(shape: _Shape, column: Array, reach: Array) -> _List:
    """The blocks in use where rows see `reach` [N] columns, the current one included."""
    newest = column // shape.block
    oldest = (column - reach + 1) // shape.block
    # Where the ring is full its oldest column may lie in the newest block.
    ends = jnp.cumsum(jnp.minimum(newest - oldest + 1, shape.blocks))
    places = jnp.arange(shape.rows * shape.blocks)
    behind = ends[:, None] <= places
    row = behind.sum(axis=0)
    back = places - jnp.max(jnp.where(behind, ends[:, None], 0), axis=0)
    entries = row * shape.blocks + (newest - back) % shape.blocks
    if shape.rows == 1:
        return _List(entries, jnp.stack([jnp.zeros_like(ends[0]), ends[0]]), ends[0])
    # Neither part may be empty: it would still write the results of some row.
    before = jnp.clip(jnp.sum(2 * ends <= ends[-1]), 1, shape.rows - 1)
    cut = ends[before - 1]
    bounds = jnp.stack([jnp.zeros_like(cut), cut, ends[-1]])
    return _List(entries, bounds, jnp.maximum(cut, ends[-1] - cut))


def _on_one_device(
    q: Array,
    cache: KeyValues,
    column: Array,
    age: Array,
    used: Array,
    *,
    config: ModelConfig,
    window: int,
    current: bool,
    interpret: bool,
) -> Partial:
    shape = _Shape.of(q, cache)
    reach = jnp.minimum(jnp.minimum(age + 1, used), shape.columns)
    reach = jnp.minimum(reach, window) if window else reach
    todo = _list(shape, column, reach)
    kernel = functools.partial(
        _kernel,
        shape=shape,
        scale=config.score_scale,
        softcap=config.attention_softcap,
        nearest=0 if current else 1,
    )
    leaves = [leaf for leaf in cache if leaf is not None]
    queries, numbers, of_cache = _blocks(shape, len(leaves))
    together = shape.heads * shape.queries
    number = jax.ShapeDtypeStruct((shape.rows, together, 1), jnp.float32)
    mix = jax.ShapeDtypeStruct((shape.rows, together, shape.head_dim), jnp.float32)
    top, total, mixed = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(len(todo.bounds) - 1, todo.steps),
            in_specs=[queries, *of_cache],
            out_specs=[numbers, numbers, queries],
        ),
        out_shape=[number, number, mix],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=_cost(shape, q, leaves),
        interpret=interpret,
        name=KERNEL,
    )(
        todo.entries,
        todo.bounds,
        column[None],
        reach - 1,  # how far back a query sees
        q.reshape(shape.rows, together, shape.head_dim),
        *(leaves if interpret else map(_in_place, leaves)),
    )
    by_query = q.shape[:3]
    return Partial(top.reshape(by_query), total.reshape(by_query), mixed.reshape(q.shape))


def _blocks(shape: _Shape, leaves: int) -> tuple[pl.BlockSpec, pl.BlockSpec, list[pl.BlockSpec]]:
    """What a step reads and writes: queries or their mix, a number of each query, the cache."""

    def of_row(*place: Array) -> tuple[Array | int, ...]:
        return jax.lax.div(_entry(*place), shape.blocks), 0, 0

    def of_block(*place: Array) -> tuple[Array | int, ...]:
        entry = _entry(*place)
        return jax.lax.div(entry, shape.blocks), 0, jax.lax.rem(entry, shape.blocks), 0

    together = shape.heads * shape.queries
    queries = pl.BlockSpec((None, together, shape.head_dim), of_row)
    numbers = pl.BlockSpec((None, together, 1), of_row)
    keys = pl.BlockSpec((None, shape.heads, shape.block, shape.head_dim), of_block)
    scales = pl.BlockSpec((None, shape.heads, shape.block), lambda *place: of_block(*place)[:3])
    return queries, numbers, [keys, keys, scales, scales][:leaves]


def _in_place(x: Array) -> Array:
    """Keeps XLA from first bringing a whole cache, where one fits, into the chip's own memory."""
    return pltpu.with_memory_space_constraint(x, pltpu.MemorySpace.HBM)


def _cost(shape: _Shape, q: Array, leaves: list[Array]) -> pl.CostEstimate:
    """The cost for full rings: the compiler does not know how much of them is in use."""
    scores = shape.rows * shape.heads * shape.queries * shape.columns
    return pl.CostEstimate(
        # As computed, every query with the keys of every head.
        flops=4 * scores * shape.heads * shape.head_dim,
        transcendentals=scores,
        bytes_accessed=sum(x.size * x.dtype.itemsize for x in leaves)
        + q.size * (q.dtype.itemsize + 4),
    )


def _entry(part: Array, step: Array, entries: Array, bounds: Array, *_: Array) -> Array:
    """The entry of a step; beyond the end of a part its last one, so that nothing new is read."""
    return entries[jnp.minimum(bounds[part] + step, bounds[part + 1] - 1)]


def _kernel(entries, bounds, column, farthest, q, keys, values, *rest, shape, **settings):
    """One block of one row: a step of the softmax (arXiv:2205.14135, algorithm 1)."""
    *scales, top, total, mixed = rest
    part, step = pl.program_id(0), pl.program_id(1)
    place = bounds[part] + step

    @pl.when(place < bounds[part + 1])
    def _():
        row = jax.lax.div(entries[place], shape.blocks)
        block = jax.lax.rem(entries[place], shape.blocks)
        earlier = jax.lax.div(entries[jnp.maximum(place - 1, 0)], shape.blocks)

        @pl.when((step == 0) | (earlier != row))
        def _():
            top[...] = jnp.full_like(top, NOTHING)
            total[...] = jnp.zeros_like(total)
            mixed[...] = jnp.zeros_like(mixed)

        slots = block * shape.block + jax.lax.broadcasted_iota(jnp.int32, (1, shape.block), 1)
        back = column[0] - slots
        back = jnp.where(back < 0, back + shape.columns, back)
        seen = (back >= settings["nearest"]) & (back <= farthest[row])
        scores = _by_head(q[...], keys, scales[:1], shape, contract=1)
        scores = soft_cap(scores * settings["scale"], settings["softcap"])
        scores = jnp.where(seen, scores, NOTHING)
        before = top[...]
        now = jnp.maximum(before, scores.max(axis=-1, keepdims=True))
        shrink = jnp.exp(before - now)
        weights = jnp.where(seen, jnp.exp(scores - now), 0.0)
        top[...] = now
        total[...] = total[...] * shrink + weights.sum(axis=-1, keepdims=True)
        if scales:
            weights *= _of_queries(scales[1], shape)
        added = _by_head(weights.astype(q.dtype), values, [], shape, contract=0)
        mixed[...] = mixed[...] * shrink + added


def _by_head(x, keys, scales, shape, contract):
    """x [K * R, ...] times the matrix [C, h] of each row's head, summed over axis `contract`."""
    of_head = _head_of_query(shape)
    found = None
    for head in range(shape.heads):
        product = jax.lax.dot_general(
            x,
            keys[head].astype(x.dtype),
            (((1,), (contract,)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        found = product if found is None else jnp.where(of_head == head, product, found)
    return found * _of_queries(scales[0], shape) if scales else found


def _of_queries(scales, shape):
    """[K, C] of each head -> [K * R, C] of each query."""
    of_head = _head_of_query(shape)
    found = scales[:1]
    for head in range(1, shape.heads):
        found = jnp.where(of_head == head, scales[head : head + 1], found)
    return found


def _head_of_query(shape):
    """The head of each query, [K * R, 1] i32."""
    places = jax.lax.broadcasted_iota(jnp.int32, (shape.heads * shape.queries, 1), 0)
    return jax.lax.div(places, shape.queries)
