"""A frozen base in int8 or nf4, dequantised layer by layer where it is used.

A quantised matrix takes the place of a `kernel` in the parameter tree (frozen_base.py): the scan
over layers slices it like any other leaf, and a product with it dequantises that slice. It has no
gradient: adapters on top of it are trained (QLoRA, arXiv:2305.14314).

The numbers are those of the package qwix, whose nf4 makes one flat axis of every array, which no
mesh can keep split. Here every step keeps the axes, and with them the sharding.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from rljax.parallel.rules import fitting, partition_spec

# Inputs that share one scale in nf4, where they divide by it; else their greatest common divisor.
NF4_TILE = 64

# Quantiles of the normal distribution, one for each code (arXiv:2305.14314, appendix E).
NF4_VALUES = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)

# Codes are -128 to 127 and reach half a step beyond: the largest number errs like any other.
INT8_BOUND = 127.5


@struct.dataclass
class Quantised:
    """A stacked matrix [L, *in, *out], or one layer's slice [*in, *out], in few bits.

    Attributes:
        codes: int8 in the matrix's shape; or uint8 with two nf4 codes in a byte, the last axis
            halved.
        scale: f32, one number for each output channel (int8) or for each tile of inputs (nf4); as
            many axes as the matrix.
        kind: "int8" or "nf4".
        dtype: of the matrix that was quantised.
    """

    codes: Array
    scale: Array
    kind: str = struct.field(pytree_node=False)
    dtype: Any = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The matrix's shape."""
        halved = self.kind == "nf4"
        return (*self.codes.shape[:-1], self.codes.shape[-1] * (2 if halved else 1))

    @property
    def ndim(self) -> int:
        """How many axes the matrix has."""
        return self.codes.ndim

    def __getitem__(self, index: Any) -> "Quantised":
        """Itself, for the `kernel[...]` with which a module reads a parameter."""
        if index is not Ellipsis:
            raise TypeError(f"A quantised matrix can only be indexed with ..., got {index!r}.")
        return self

    def astype(self, dtype: Any) -> Array:
        """The matrix, dequantised in float32 and cast."""
        scale = self.scale
        for axis, (size, tiles) in enumerate(zip(self.shape, scale.shape, strict=True)):
            scale = jnp.repeat(scale, size // tiles, axis)
        values = self.codes if self.kind == "int8" else jnp.asarray(NF4_VALUES)[_unpack(self.codes)]
        return (values.astype(jnp.float32) * scale).astype(dtype)

    def factors(self, dtype: Any) -> tuple[Array, Array | None]:
        """The matrix of a product, and what the product is multiplied by, [1.., *out]; None: 1.

        Codes of int8 are whole numbers that any dtype has, and all inputs of an output channel have
        one scale. A matrix that is scaled before the product may be written to memory in `dtype`:
        the compiler for TPUs did so with every layer's output of attention, for each token.
        """
        if self.kind == "int8":
            return self.codes.astype(dtype), self.scale
        return self.astype(dtype), None

    def gathered(self, axes: tuple[str, ...]) -> "Quantised":
        """The matrix gathered over fsdp, inside jit; where no mesh is set, as it is.

        Without this the partitioner may dequantise first, and then gather four to eight times the
        bytes.

        Args:
            axes: logical names of the matrix's axes (parallel/rules.py).
        """
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty:
            return self
        spec = partition_spec(["width" if name == "embed" else name for name in axes])

        def pin(part: Array) -> Array:
            return jax.lax.with_sharding_constraint(part, fitting(spec, part.shape, mesh.shape))

        return jax.tree.map(pin, self)


def quantise(matrix: Array, input_axes: int, kind: str) -> Quantised:
    """Quantises a stacked matrix, one layer after the other: no two are there in float32.

    int8: absmax over the inputs of each output channel. nf4 (arXiv:2305.14314, section 3): absmax
    over tiles of up to 64 inputs along the last input axis, then the nearest of 16 quantiles of the
    normal distribution.

    Args:
        matrix: [L, *in, *out].
        input_axes: number of input axes.
        kind: "int8" or "nf4".

    Raises:
        ValueError: for nf4 with an odd last axis.
    """
    if kind == "nf4" and matrix.shape[-1] % 2:
        raise ValueError(
            f"nf4 keeps two numbers in a byte: the last axis of {matrix.shape} is odd "
            "(config.model.lora.base)."
        )
    layer = _int8 if kind == "int8" else _nf4
    codes, scale = jax.lax.map(functools.partial(layer, input_axes=input_axes), matrix)
    return Quantised(codes, scale, kind, matrix.dtype)


def _int8(matrix: Array, *, input_axes: int) -> tuple[Array, Array]:
    """[*in, *out] -> codes and scale of one layer."""
    exact = matrix.astype(jnp.float32)
    largest = jnp.max(jnp.abs(exact), axis=tuple(range(input_axes)), keepdims=True)
    scale = _not_tiny(largest / INT8_BOUND)
    return jnp.clip(jnp.round(exact / scale), -128, 127).astype(jnp.int8), scale


def _nf4(matrix: Array, *, input_axes: int) -> tuple[Array, Array]:
    """[*in, *out] -> packed codes and scale of one layer."""
    inputs = matrix.shape[:input_axes]
    tile = math.gcd(inputs[-1], NF4_TILE)
    shape = (*inputs[:-1], inputs[-1] // tile, tile, *matrix.shape[input_axes:])
    tiles = matrix.astype(jnp.float32).reshape(shape)
    scale = _not_tiny(jnp.max(jnp.abs(tiles), axis=input_axes, keepdims=True))
    relative = (tiles / scale).reshape(matrix.shape)
    # The nearest value's code is the number of midpoints below.
    middles = (NF4_VALUES[1:] + NF4_VALUES[:-1]) / 2
    codes = sum((relative > middle).astype(jnp.uint8) for middle in middles)
    return _pack(codes), scale.squeeze(input_axes)


def _not_tiny(scale: Array) -> Array:
    """1 for tiles of zeros, by which nothing can be divided."""
    return jnp.where(scale < jnp.sqrt(jnp.finfo(scale.dtype).tiny), 1.0, scale)


def _pack(codes: Array) -> Array:
    """[..., n] codes of 4 bits -> [..., n / 2] uint8, two neighbours in a byte.

    Neighbours, so that packing and unpacking stay within the shards of that axis.
    """
    pairs = codes.reshape(*codes.shape[:-1], -1, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4)


def _unpack(packed: Array) -> Array:
    """The inverse of `_pack`."""
    pairs = jnp.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)
