"""Random signs that bring long vectors to d numbers and nearly keep their inner products."""

import math

import jax
import jax.numpy as jnp
from jax import Array

# Entries of a vector whose signs are drawn at a time.
CHUNK = 1024


def projected(vectors: Array, key: Array, size: int) -> Array:
    """[N, D] f32 -> [N, min(size, D)] f32: R x / sqrt(size), R of random signs.

    An inner product is kept up to an error of 1 / sqrt(size) of the lengths. Vectors that are no
    longer than `size` stay as they are.

    Args:
        vectors: of any length.
        key: of the signs; vectors that are compared need the same.
        size: d.
    """
    length = vectors.shape[1]
    if length <= size:
        return vectors
    chunks = math.ceil(length / CHUNK)
    padded = jnp.pad(vectors, ((0, 0), (0, chunks * CHUNK - length)))
    parts = padded.reshape(len(vectors), chunks, CHUNK).swapaxes(0, 1)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        number, own = part
        signs = jax.random.rademacher(jax.random.fold_in(key, number), (CHUNK, size), jnp.float32)
        return total + own @ signs, None

    start = jnp.zeros((len(vectors), size), jnp.float32)
    total, _ = jax.lax.scan(add, start, (jnp.arange(chunks), parts))
    return total / math.sqrt(size)
