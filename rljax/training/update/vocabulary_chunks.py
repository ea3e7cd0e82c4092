"""Logits of some slots at a time: how slots are cut into chunks, and both passes over the chunks.

A chunk's logits [slots, V'] are computed, reduced and dropped, so that [N, T, V] is never there.
Rows stay on their devices, and so do the shards of the vocabulary.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention import soft_cap
from rljax.parallel.rules import RULES, constrain, partition_spec

# Bytes of float32 logits that one device holds at a time.
LOGITS_BYTES = 3 * 2**27

# Slots that one device computes at a time, if LOGITS_BYTES allows. With fewer, reading and writing
# the gradient of the vocabulary matrix for every chunk takes longer than its products; with more,
# logits of small vocabularies fall out of a processor's cache.
CHUNK_SLOTS = 1024


@dataclasses.dataclass(frozen=True)
class Cut:
    """How slots [N, T] are cut into chunks [chunks, *shards, slots].

    The axes of shards [row shards, column shards] are there only if there is more than one.
    Every device works on slots of its own in every chunk. With 2 row shards, 1 column shard and 3
    chunks, the rows 0 1 | 2 3 of 4 slots each become 0000 1111 | 2222 3333 and then three chunks
    of 000 | 222, 011 | 233, 11. | 33. with one slot of padding.
    """

    shape: tuple[int, int]  # N, T
    shards: tuple[int, int]  # of rows and of columns
    chunks: int

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of one device."""
        return tuple(math.ceil(size / n) for size, n in zip(self.shape, self.shards, strict=True))

    def split(self, x: Array) -> Array:
        """[N, T, ...] -> [chunks, *shards, slots, ...], padded with zeros."""
        (rows, columns), (height, width), rest = self.shards, self.block, x.shape[2:]
        x = pad(pad(x, 0, rows * height), 1, columns * width)
        x = x.reshape(rows, height, columns, width, *rest).swapaxes(1, 2)
        size = math.ceil(height * width / self.chunks)
        x = pad(x.reshape(rows, columns, height * width, *rest), 2, self.chunks * size)
        x = jnp.moveaxis(x.reshape(rows, columns, self.chunks, size, *rest), 2, 0)
        if rows * columns == 1:
            return x[:, 0, 0]
        return constrain(x, None, "batch", "sequence", *[None] * (1 + len(rest)))

    def join(self, x: Array) -> Array:
        """The inverse of `split`."""
        (rows, columns), (height, width) = self.shards, self.block
        x = x[:, None, None] if rows * columns == 1 else x
        rest = x.shape[4:]
        x = jnp.moveaxis(x, 0, 2).reshape(rows, columns, -1, *rest)[:, :, : height * width]
        x = x.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)
        x = x.reshape(rows * height, columns * width, *rest)[: self.shape[0], : self.shape[1]]
        return constrain(x, "batch", "sequence", *[None] * len(rest))


def chunked(
    shape: tuple[int, int],
    vocabulary_rows: int,
    logits_bytes: int = LOGITS_BYTES,
    chunk_slots: int = CHUNK_SLOTS,
) -> tuple[Cut, bool]:
    """The cut of slots [N, T], and whether the logits of all of a device's slots fit at once.

    Args:
        shape: N, T.
        vocabulary_rows: V', of all vocabularies that a slot meets together.
        logits_bytes: see `LOGITS_BYTES`.
        chunk_slots: see `CHUNK_SLOTS`.
    """
    whole = Cut(shape, (shards("batch"), shards("sequence")), chunks=1)
    slots = math.prod(whole.block)
    fit = max(logits_bytes // (4 * math.ceil(vocabulary_rows / shards("vocab"))), 1)
    cut = dataclasses.replace(whole, chunks=math.ceil(slots / min(fit, chunk_slots)))
    return cut, slots <= fit


def pad(x: Array, axis: int, size: int) -> Array:
    """Zeros at the end of an axis, up to `size`."""
    return jnp.pad(x, [(0, size - x.shape[axis] if a == axis else 0) for a in range(x.ndim)])


def shards(axis: str) -> int:
    """Into how many parts the mesh splits a logical axis."""
    names, sizes = RULES[axis] or (), jax.sharding.get_abstract_mesh().shape
    names = (names,) if isinstance(names, str) else names
    return math.prod(sizes.get(name, 1) for name in names)


def whole_rows(vocabulary: Array, dtype: jnp.dtype) -> Array:
    """The matrix as the loops read it: gathered over fsdp once, not for every chunk."""
    return constrain(vocabulary.astype(dtype), "vocab", "width")


def products(hidden: Array, weights: Array, logit_softcap: float) -> Array:
    """[*shards, slots, D], [V', D] -> [*shards, slots, V'] f32 logits, soft-capped."""
    logits = jnp.einsum("...d,vd->...v", hidden, weights, preferred_element_type=jnp.float32)
    logits = constrain(logits, *("batch", "sequence", None, "vocab")[-logits.ndim :])
    return soft_cap(logits, logit_softcap)


def products_backward(
    logits_bar: Callable[[Array, Array, Any], Array], hidden: Array, vocabulary: Array, rest: Any
) -> tuple[Array, Array]:
    """The cotangents of hidden states and vocabulary, chunk by chunk.

    Args:
        logits_bar: (hidden, weights, rest of a chunk) -> the cotangent of hidden @ weights.T,
            [..., V'] f32.
        hidden: [chunks, *shards, slots, D].
        vocabulary: [V', D].
        rest: arrays that lead with the chunks.
    """
    weights = whole_rows(vocabulary, hidden.dtype)
    # Each shard of slots has a sum of its own: adding them up in the loop would cost a reduction
    # over the devices for every chunk.
    shape = (*hidden.shape[1:-2], *vocabulary.shape)
    axes = ("batch", "sequence", "vocab", "width")[-len(shape) :]

    def accumulate(total: Array, chunk: tuple) -> tuple[Array, Array]:
        hidden, rest = chunk
        bar = logits_bar(hidden, weights, rest).astype(hidden.dtype)
        dots = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
        total = total + dots("...sv,...sd->...vd", bar, hidden)
        return constrain(total, *axes), dots("...v,vd->...d", bar, weights).astype(hidden.dtype)

    zeros = constrain(jnp.zeros(shape, jnp.float32), *axes)
    total, hidden_bar = jax.lax.scan(accumulate, zeros, (hidden, rest))
    total = total.sum(range(total.ndim - 2)).astype(vocabulary.dtype)
    return hidden_bar, constrain(total, "vocab", "embed")


def most_probable(log_p: Array, count: int) -> tuple[Array, Array]:
    """The largest and their tokens, [..., k] both: of each shard first, then of those."""
    vocabulary_rows, axis = log_p.shape[-1], RULES["vocab"]

    def local(log_p: Array) -> tuple[Array, Array]:
        size = log_p.shape[-1]
        values, tokens = jax.lax.top_k(log_p, min(count, size))
        if size == vocabulary_rows:
            return values, tokens
        tokens += size * jax.lax.axis_index(axis)
        collect = functools.partial(jax.lax.all_gather, axis_name=axis, axis=-1, tiled=True)
        values, index = jax.lax.top_k(collect(values), count)
        return values, jnp.take_along_axis(collect(tokens), index, axis=-1)

    return per_device(local, log_p)


def per_device(function: Callable, logits: Array) -> Any:
    """function([..., V' or its shard]) -> arrays [..., any size], of each device's own slots.

    Left to the compiler, a top_k would collect the slots of all devices.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function(logits)
    slots = ("batch", "sequence", None)[1 - logits.ndim :]
    given, returned = (partition_spec((*slots, last)) for last in ("vocab", None))
    return jax.shard_map(function, in_specs=given, out_specs=returned, check_vma=False)(logits)
