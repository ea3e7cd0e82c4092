"""The layers of the trunk. Every parameter carries its logical axis names (parallel/rules.py).

The layers of a trunk are stacked: a parameter of a block has a leading axis "layers" of size L, and
`transformer.py` scans over it, so the code here sees the slice of one layer.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rljax.models.config import ModelConfig

# Inside a block: (q [N,S,H,h], k [N,S,K,h], v [N,S,K,h]) -> context [N,S,H,h]
Attend = Callable[[Array, Array, Array], Array]


# Numbers up to which a parameter is drawn as one flat array.
FLAT_DRAW_SIZE = 2**20


def make_param(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], std: float, config: ModelConfig
) -> nnx.Param:
    """A normal(0, std) parameter in `param_dtype` with its logical axis names."""
    # The numbers depend on the flat index alone. Small parameters are drawn flat, since XLA's CPU
    # compiler takes ten times longer over several axes; large ones keep their axes, so that each
    # device draws no more than its shard.
    drawn = (math.prod(shape),) if math.prod(shape) <= FLAT_DRAW_SIZE else shape
    value = (std * jax.random.normal(rngs.params(), drawn, jnp.float32)).reshape(shape)
    return nnx.Param(value.astype(config.param_dtype), logical_axes=axes)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation over the last axis, computed in float32 (arXiv:1910.07467)."""

    def __init__(self, config: ModelConfig, *, layers: int | None = None):
        shape, axes = (config.width,), ("width",)
        if layers is not None:
            shape, axes = (layers, *shape), ("layers", *axes)
        self.scale = nnx.Param(jnp.ones(shape, config.param_dtype), logical_axes=axes)
        self.epsilon = config.norm_epsilon

    def __call__(self, x: Array) -> Array:
        """[..., D] -> [..., D], dtype kept."""
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(
            jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon
        )
        return (normed * self.scale[...].astype(jnp.float32)).astype(x.dtype)


def rotate(x: Array, positions: Array, *, base: float) -> Array:
    """Rotary position embedding (arXiv:2104.09864), pairs (i, i + h/2), angles in float32.

    Args:
        x: [N, S, heads, h].
        positions: [N, S] i32.
        base: rotary base; pair i turns by position * base ** (-2i/h) radians.
    """
    half = x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency  # [N, S, 1, h/2]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    ).astype(x.dtype)


def linear(x: Array, weights: Array, *, out_axes: int = 1) -> Array:
    """Contracts the trailing axes of x with the leading axes of the weights.

    Written as one product of two matrices: on XLA's CPU backend the gradient of the whole trunk is
    then faster than with more than one free axis, though not that of every single product.

    Args:
        x: [N, S, *inputs].
        weights: [*inputs, *outputs] in any float dtype; cast to that of x.
        out_axes: number of output axes.

    Returns:
        [N, S, *outputs] in the dtype of x.
    """
    inputs = math.prod(weights.shape[:-out_axes])
    outputs = weights.shape[-out_axes:]
    matrix = weights.astype(x.dtype).reshape(inputs, math.prod(outputs))
    return (x.reshape(-1, inputs) @ matrix).reshape(*x.shape[:2], *outputs)


class Attention(nnx.Module):
    """Projections of grouped-query attention; what the queries see is the caller's `attend`."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        width, heads, kv_heads, head_dim = (
            config.width,
            config.heads,
            config.kv_heads,
            config.head_dim,
        )
        std = width**-0.5
        query = (layers, width, heads, head_dim)
        key = (layers, width, kv_heads, head_dim)
        key_axes = ("layers", "embed", "kv_heads", "head_dim")
        self.query = make_param(rngs, query, ("layers", "embed", "heads", "head_dim"), std, config)
        self.key = make_param(rngs, key, key_axes, std, config)
        self.value = make_param(rngs, key, key_axes, std, config)
        # The residual stream adds 2L outputs; scaling them down keeps its variance at start.
        out_std = (heads * head_dim * 2 * config.layers) ** -0.5
        self.out = make_param(
            rngs,
            (layers, heads, head_dim, width),
            ("layers", "heads", "head_dim", "embed"),
            out_std,
            config,
        )
        self.rope_base = config.rope_base

    def __call__(self, x: Array, positions: Array, attend: Attend) -> Array:
        """x [N, S, D], positions [N, S] -> [N, S, D]."""
        q = linear(x, self.query[...], out_axes=2)
        k = linear(x, self.key[...], out_axes=2)
        v = linear(x, self.value[...], out_axes=2)
        q = rotate(q, positions, base=self.rope_base)
        k = rotate(k, positions, base=self.rope_base)
        return linear(attend(q, k, v), self.out[...])


class GatedMLP(nnx.Module):
    """SwiGLU feed-forward: (silu(x W_gate) * x W_up) W_down (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        width, hidden = config.width, config.mlp_width
        self.gate = make_param(
            rngs, (layers, width, hidden), ("layers", "embed", "mlp"), width**-0.5, config
        )
        self.up = make_param(
            rngs, (layers, width, hidden), ("layers", "embed", "mlp"), width**-0.5, config
        )
        down_std = (hidden * 2 * config.layers) ** -0.5
        self.down = make_param(
            rngs, (layers, hidden, width), ("layers", "mlp", "embed"), down_std, config
        )

    def __call__(self, x: Array) -> Array:
        """[N, S, D] -> [N, S, D]."""
        hidden = jax.nn.silu(linear(x, self.gate[...])) * linear(x, self.up[...])
        return linear(hidden, self.down[...])


class Block(nnx.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config, layers=layers)
        self.attention = Attention(config, layers=layers, rngs=rngs)
        self.mlp_norm = RMSNorm(config, layers=layers)
        self.mlp = GatedMLP(config, layers=layers, rngs=rngs)

    def __call__(self, x: Array, positions: Array, attend: Attend) -> Array:
        """x [N, S, D], positions [N, S] -> [N, S, D]."""
        x = x + self.attention(self.attention_norm(x), positions, attend)
        return x + self.mlp(self.mlp_norm(x))
