"""Attention by XLA: every score is computed and held, in float32."""

import jax
import jax.numpy as jnp
from jax import Array


def dense(q: Array, k: Array, v: Array, mask: Array, *, scale: float, softcap: float) -> Array:
    """q [N,S,H,h], k and v [N,C,K,h], mask [N,1,S,C] -> [N,S,H,h]; float32 softmax."""
    if not softcap:
        return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale)
    rows, steps, heads, size = q.shape
    q = q.reshape(rows, steps, k.shape[2], -1, size)
    scores = jnp.einsum("nskgh,nckh->nkgsc", q, k, preferred_element_type=jnp.float32)
    scores = soft_cap(scores * scale, softcap)
    # A row that sees nothing (padding) must not become NaN: finite, then uniform.
    scores = jnp.where(mask[:, :, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("nkgsc,nckh->nskgh", weights, v).reshape(rows, steps, heads, size)


def soft_cap(x: Array, cap: float) -> Array:
    """cap * tanh(x / cap), or x itself where cap is 0."""
    return cap * jnp.tanh(x / cap) if cap else x
