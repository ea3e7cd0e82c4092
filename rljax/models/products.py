"""Products and look-ups whose parameters get float32 gradients under bfloat16 activations.

Left to differentiation, the gradient of a parameter that was cast to bfloat16 is bfloat16: the
products of a device are rounded before they are added up over devices, and a frequent token's many
contributions to the embedding are added one by one in bfloat16, where small ones vanish.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from rljax.parallel.rules import constrain


@jax.custom_vjp
def matmul(x: Array, weights: Array) -> Array:
    """x [..., A] @ weights [A, B], which are cast to the dtype of x -> [..., B]."""
    return x @ weights.astype(x.dtype)


def _matmul_forward(x: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return matmul(x, weights), (x, weights)


def _matmul_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, weights = saved
    axes = tuple(range(x.ndim - 1))
    found = jax.lax.dot_general(x, dy, ((axes, axes), ((), ())), preferred_element_type=jnp.float32)
    return dy @ weights.astype(x.dtype).T, found.astype(weights.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def embed(table: Array, tokens: Array, dtype: jnp.dtype) -> Array:
    """Rows of table [V, D] in `dtype`: tokens [N, S] i32 -> [N, S, D]."""
    # Both the rows of tokens and the table's width are split over fsdp: gather the table's rows.
    return constrain(table.astype(dtype), "vocab", "width")[tokens]


def _embed_forward(table: Array, tokens: Array, dtype: jnp.dtype) -> tuple[Array, tuple]:
    # An empty array keeps the number of rows and the dtype of the table.
    return embed(table, tokens, dtype), (tokens, jnp.zeros((table.shape[0], 0), table.dtype))


def _embed_backward(dtype: jnp.dtype, saved: tuple, dy: Array) -> tuple[Array, None]:
    tokens, like = saved
    # Over fsdp, devices exchange their rows for the columns of the table that they hold: to add up
    # whole tables over devices would send, and hold, as much as the table, however few the tokens.
    dy = constrain(dy, "outer_batch", "sequence", "embed")
    total = constrain(jnp.zeros((len(like), dy.shape[-1]), _sum_dtype(dy)), "vocab", "embed")
    total = total.at[tokens].add(dy.astype(total.dtype))
    return constrain(total, "vocab", "embed").astype(like.dtype), None


embed.defvjp(_embed_forward, _embed_backward)


def _sum_dtype(x: Array) -> jnp.dtype:
    """The dtype of a sum: that of x, but at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)
