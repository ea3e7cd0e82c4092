"""Merging of a trained model with the one it started from (DLER, arXiv:2510.15110).

    D = trained - base;   theta = base + scale D where |D| is among the largest, else base

The share of entries that is kept is counted in every tensor of a published checkpoint by itself,
or in the model as a whole; the paper does not say which, nor what it is for embeddings.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.models.lora import flatten, unflatten
from rljax.models.network import Leaves, Network, Params

Path = tuple[str, ...]  # of a parameter

SCOPES = ("tensor", "model")

# Magnitudes of float32 numbers are ordered as their bits are, sign bit cleared.
MAGNITUDE_BITS = 31


def merge(
    network: Network,
    base: Params,
    trained: Params,
    *,
    keep: float = 0.25,
    scale: float = 0.7,
    scope: str = "tensor",
) -> Params:
    """theta = base + scale D on the share `keep` of entries with the largest |D|.

    Entries that are as large as the smallest one kept are kept too. Rows that pad the vocabulary
    are not counted, and stay those of the base.

    Args:
        network: of both, without adapters.
        base, trained: parameters of the same shapes, in any float dtypes and shardings.
        keep: share of the entries, in [0, 1]; rounded to whole entries of a tensor or the model.
        scale: 0 gives the base back exactly; 1 gives the trained numbers back exactly, where kept.
        scope: "tensor" counts in each tensor of a published checkpoint (one matrix of one layer, of
            one expert), "model" in all of them together.

    Returns:
        Parameters in the dtypes of `base`; D, and the sum, are taken in float32.

    Raises:
        ValueError: for a share outside [0, 1], an unknown scope, a network with adapters, or trees
            of different shapes.
    """
    _check(network, base, trained, keep, scope)
    first, second = flatten(base), flatten(trained)
    thresholds = _thresholds(network, first, second, keep, scope)
    join = jax.jit(functools.partial(_join, scale=scale))

    def merged(path: Path) -> Array:
        return join(
            first[path], second[path], thresholds[path], _counted(network, path, first[path])
        )

    return unflatten({path: merged(path) for path in first})


def kept_share(network: Network, base: Params, merged: Params) -> float:
    """Share of all entries, without padding, in which two models differ."""
    first, second = flatten(base), flatten(merged)
    changed = sum(_total(first[path] != second[path]) for path in first)
    return changed / sum(_size(network, path, leaf) for path, leaf in first.items())


def _check(network: Network, base: Params, trained: Params, keep: float, scope: str) -> None:
    if not 0 <= keep <= 1:
        raise ValueError(f"keep must be a share in [0, 1], got {keep} (--keep).")
    if scope not in SCOPES:
        raise ValueError(f"Unknown scope {scope!r}; known: {', '.join(SCOPES)} (--scope).")
    if network.config.lora is not None:
        raise ValueError("Adapters must be merged into their matrices before models are merged.")
    shapes = [{path: leaf.shape for path, leaf in flatten(t).items()} for t in (base, trained)]
    if shapes[0] != shapes[1]:
        odd = min(set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ValueError(f"The two models differ in shape, at {'.'.join(odd[0])}: {list(odd[1])}.")


def _thresholds(
    network: Network, base: Leaves, trained: Leaves, keep: float, scope: str
) -> dict[Path, Array]:
    """[*stacked] u32 of each leaf: the bits of the smallest |D| that is kept."""
    stacked = {path: _stacked(network, path) for path in base}
    sizes = {path: _size(network, path, leaf) for path, leaf in base.items()}
    if scope == "tensor":
        find = jax.jit(_of_tensors, static_argnames=("stacked", "kept"))
        return {
            path: find(
                base[path],
                trained[path],
                _counted(network, path, base[path]),
                stacked=stacked[path],
                kept=round(keep * sizes[path] / math.prod(base[path].shape[: stacked[path]])),
            )
            for path in base
        }
    compare = jax.jit(lambda a, b, counted, least: _bits(a, b, counted) >= least)

    def at_least(least: int) -> int:
        return sum(
            _total(compare(leaf, trained[path], _counted(network, path, leaf), jnp.uint32(least)))
            for path, leaf in base.items()
        )

    threshold, kept = 0, round(keep * sum(sizes.values()))
    for bit in reversed(range(MAGNITUDE_BITS)):
        if at_least(threshold | 1 << bit) >= kept:
            threshold |= 1 << bit
    threshold = jnp.uint32(threshold if kept else 2**32 - 1)
    return {
        path: jnp.broadcast_to(threshold, leaf.shape[: stacked[path]])
        for path, leaf in base.items()
    }


@jax.jit
def _row_counts(found: Array) -> Array:
    return found.sum(axis=tuple(range(1, found.ndim)), dtype=jnp.int32)


def _total(found: Array) -> int:
    """How often an array is True; leaves may have more than 2**31 entries."""
    return int(np.asarray(_row_counts(found)).sum(dtype=np.int64))


def _of_tensors(base: Array, trained: Array, counted: Array, *, stacked: int, kept: int) -> Array:
    """[*stacked] u32: for each tensor the largest t such that `kept` entries are at least t.

    Bit by bit from the highest one: nothing is sorted, and a sharded leaf stays as it is.
    """
    bits = _bits(base, trained, counted)
    axes = tuple(range(stacked, bits.ndim))

    def turn(index: Array, threshold: Array) -> Array:
        higher = threshold | (jnp.uint32(1) << (MAGNITUDE_BITS - 1 - index).astype(jnp.uint32))
        found = (bits >= jnp.expand_dims(higher, axes)).sum(axis=axes)
        return jnp.where(found >= kept, higher, threshold)

    shape = bits.shape[:stacked]
    if not kept:
        return jnp.full(shape, 2**32 - 1, jnp.uint32)
    return jax.lax.fori_loop(0, MAGNITUDE_BITS, turn, jnp.zeros(shape, jnp.uint32))


def _bits(base: Array, trained: Array, counted: Array) -> Array:
    """u32 in the order of |D|; 0 where nothing is counted."""
    change = jnp.abs(trained.astype(jnp.float32) - base.astype(jnp.float32))
    return jnp.where(counted, jax.lax.bitcast_convert_type(change, jnp.uint32), 0)


def _join(base: Array, trained: Array, threshold: Array, counted: Array, *, scale: float) -> Array:
    axes = tuple(range(threshold.ndim, base.ndim))
    # An entry without a change is not touched, not even by rounding.
    least = jnp.maximum(jnp.expand_dims(threshold, axes), 1)
    kept = _bits(base, trained, counted) >= least
    # The same as base + scale D, and exact for a scale of 0 or 1.
    mixed = (1 - scale) * base.astype(jnp.float32) + scale * trained.astype(jnp.float32)
    return jnp.where(kept, mixed.astype(base.dtype), base)


def _counted(network: Network, path: Path, leaf: Array) -> Array:
    """bool that broadcasts against the leaf: False on rows that pad the vocabulary."""
    axes = flatten(network.logical_axes)[path]
    if axes[0] != "vocab":
        return jnp.ones((1,) * leaf.ndim, bool)
    return (jnp.arange(leaf.shape[0]) < network.config.vocab_size)[:, None]


def _stacked(network: Network, path: Path) -> int:
    """Leading axes of a leaf that a published checkpoint has as tensors of their own."""
    axes = flatten(network.logical_axes)[path]
    if axes[0] != "layers":
        return 0
    return 2 if axes[1] == "experts" and len(axes) > 2 else 1


def _size(network: Network, path: Path, leaf: Array) -> int:
    """Entries of a leaf, without padding."""
    padded = flatten(network.logical_axes)[path][0] == "vocab"
    return leaf.size // leaf.shape[0] * network.config.vocab_size if padded else leaf.size
