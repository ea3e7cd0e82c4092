"""Products of sorted rows with one matrix per group: row r of group g becomes x[r] @ weights[g].

Two forms, chosen by the platform that is compiled for. On accelerators `jax.lax.ragged_dot`. On
CPU, where that one multiplies every row with every matrix, a loop over blocks of rows: it computes
only the rows that exist, and skips groups without rows.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Rows of a block on CPU, as a power of two between these: about the rows of a group.
BLOCK_ROWS = (8, 128)


class Split(NamedTuple):
    """One dimension of the weights is split over a mesh axis."""

    axis: str
    dimension: int


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def grouped_matmul(x: Array, weights: Array, sizes: Array, split: Split | None = None) -> Array:
    """Multiplies each group of rows with its own matrix.

    Split weights are gathered here, in the forward and again in the backward pass, so that no
    device keeps a gathered copy between the two.

    Args:
        x: [R, A], the rows of group 0, then those of group 1, ...
        weights: [G, A, B] in any float dtype, cast to that of x; less along `split`.
        sizes: [G] i32, rows of each group; their sum is at most R.
        split: inside `jax.shard_map`: over which axis the weights are split.

    Returns:
        [R, B] in the dtype of x. Rows beyond the groups are undefined, and so are their gradients;
        they have no effect on the gradient of the weights.
    """
    return _by_platform(_loop, jax.lax.ragged_dot, x, _whole(weights, x.dtype, split), sizes)


def _forward(x: Array, weights: Array, sizes: Array, split: Split | None):
    return grouped_matmul(x, weights, sizes, split), (x, weights, sizes)


def _backward(split: Split | None, kept: tuple, dy: Array):
    x, weights, sizes = kept
    whole = _whole(weights, x.dtype, split)
    dx, dw = _by_platform(_loop_gradients, _ragged_gradients, x, whole, sizes, dy)
    dw = dw.astype(weights.dtype)
    if split is not None:
        dw = jax.lax.psum_scatter(dw, split.axis, scatter_dimension=split.dimension, tiled=True)
    return dx, dw, None


grouped_matmul.defvjp(_forward, _backward)


def _by_platform(on_cpu, elsewhere, *args: Array):
    return jax.lax.platform_dependent(*args, cpu=on_cpu, default=elsewhere)


def _whole(weights: Array, dtype: jnp.dtype, split: Split | None) -> Array:
    weights = weights.astype(dtype)
    if split is None:
        return weights
    return jax.lax.all_gather(weights, split.axis, axis=split.dimension, tiled=True)


def _ragged_gradients(x: Array, weights: Array, sizes: Array, dy: Array) -> tuple[Array, Array]:
    product = functools.partial(jax.lax.ragged_dot, group_sizes=sizes)
    return jax.vjp(product, x, weights)[1](dy)


class _Blocks(NamedTuple):
    """Blocks of rows in ascending order; a group's last block reaches into the next group."""

    rows: int  # of a block
    ends: Array  # [G] i32, blocks of all groups up to this one
    counts: Array  # [G] i32, blocks of the group
    starts: Array  # [G] i32, first row of the group

    @classmethod
    def of(cls, row_count: int, sizes: Array) -> "_Blocks":
        least, most = BLOCK_ROWS
        rows = least
        while rows < most and rows * len(sizes) < row_count:
            rows *= 2
        counts = -(-sizes // rows)
        return cls(rows, jnp.cumsum(counts), counts, jnp.cumsum(sizes) - sizes)

    def at(self, block: Array) -> tuple[Array, Array]:
        """The group of a block, and its first row."""
        group = jnp.searchsorted(self.ends, block, side="right").astype(jnp.int32)
        within = block - (self.ends[group] - self.counts[group])
        return group, self.starts[group] + within * self.rows

    def pad(self, x: Array) -> Array:
        """Room for a block that begins at the last row."""
        return jnp.pad(x, ((0, self.rows), (0, 0)))


def _loop(x: Array, weights: Array, sizes: Array, contract: int = 1) -> Array:
    """x times the weights, summed over their axis `contract`; with 2 they are transposed."""
    blocks = _Blocks.of(len(x), sizes)
    padded = blocks.pad(x)

    def one(block: Array, out: Array) -> Array:
        group, start = blocks.at(block)
        part = jax.lax.dynamic_slice_in_dim(padded, start, blocks.rows)
        y = jax.lax.dot_general(part, weights[group], (((1,), (contract - 1,)), ((), ())))
        # Rows beyond the group are wrong here; the next block overwrites them.
        return jax.lax.dynamic_update_slice_in_dim(out, y, start, 0)

    out = jnp.zeros((len(padded), weights.shape[3 - contract]), x.dtype)
    return jax.lax.fori_loop(0, blocks.ends[-1], one, out)[: len(x)]


def _loop_gradients(x: Array, weights: Array, sizes: Array, dy: Array) -> tuple[Array, Array]:
    blocks = _Blocks.of(len(x), sizes)
    padded, padded_dy = blocks.pad(x), blocks.pad(dy)

    def one(block: Array, dw: Array) -> Array:
        group, start = blocks.at(block)
        own = start + jnp.arange(blocks.rows) < blocks.starts[group] + sizes[group]
        part = jax.lax.dynamic_slice_in_dim(padded, start, blocks.rows)
        part = jnp.where(own[:, None], part, 0)
        part_dy = jnp.where(
            own[:, None], jax.lax.dynamic_slice_in_dim(padded_dy, start, blocks.rows), 0
        )
        return dw.at[group].add(jnp.matmul(part.T, part_dy, preferred_element_type=dw.dtype))

    dw = jax.lax.fori_loop(0, blocks.ends[-1], one, jnp.zeros(weights.shape, jnp.float32))
    return _loop(dy, weights, sizes, contract=2), dw.astype(weights.dtype)
