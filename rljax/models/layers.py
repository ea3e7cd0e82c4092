"""The layers of the trunk. Every parameter carries its logical axis names (parallel/rules.py).

The layers of a trunk are stacked: a parameter of a block has a leading axis "layers" of size L, and
`transformer.py` scans over it, so the code here sees the slice of one layer.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from rljax.models.config import ModelConfig
from rljax.models.products import matmul
from rljax.models.quantize import Quantised
from rljax.models.rotary import Rotation, rotate
from rljax.parallel.rules import slots_are_split

# Inside a block: (q [N,S,H,h], k [N,S,K,h], v [N,S,K,h]) -> context [N,S,H,h]
Attend = Callable[[Array, Array, Array], Array]
Initializer = Callable[[Array, tuple[int, ...]], Array]  # (key, shape) -> f32

ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}

# Numbers up to which a parameter is drawn as one flat array.
FLAT_DRAW_SIZE = 2**20


def normal(std: float) -> Initializer:
    """Draws from normal(0, std)."""
    return lambda key, shape: std * jax.random.normal(key, shape, jnp.float32)


def uniform(bound: float) -> Initializer:
    """Draws from uniform(-bound, bound)."""
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def constant(value: float) -> Initializer:
    """Draws nothing."""
    return lambda key, shape: jnp.full(shape, value, jnp.float32)


def make_param(
    key: Array,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    initializer: Initializer,
    config: ModelConfig,
) -> nnx.Param:
    """A parameter in `param_dtype` with its logical axis names."""
    # The numbers depend on the flat index alone. Small parameters are drawn flat, since XLA's CPU
    # compiler takes ten times longer over several axes; large ones keep their axes, so that each
    # device draws no more than its shard.
    drawn = (math.prod(shape),) if math.prod(shape) <= FLAT_DRAW_SIZE else shape
    value = initializer(key, drawn).reshape(shape)
    return nnx.Param(value.astype(config.param_dtype), logical_axes=axes)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation, computed in float32 (arXiv:1910.07467)."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        layers: int | None = None,
        shape: tuple[int, ...] | None = None,
        axes: tuple[str, ...] = ("width",),
    ):
        """Normalises over trailing axes of sizes `shape`, the width by default."""
        shape = (config.width,) if shape is None else shape
        self.axes = tuple(range(-len(shape), 0))
        if layers is not None:
            shape, axes = (layers, *shape), ("layers", *axes)
        ones = jnp.full(shape, 1.0 - config.norm_offset, config.param_dtype)
        self.scale = nnx.Param(ones, logical_axes=axes)
        self.epsilon, self.offset = config.norm_epsilon, config.norm_offset

    def __call__(self, x: Array) -> Array:
        """[..., *shape] -> [..., *shape], dtype kept."""
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x32), axis=self.axes, keepdims=True)
        scale = self.scale[...].astype(jnp.float32) + self.offset
        return (x32 * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(x.dtype)


def linear(
    x: Array, weights: Array | Quantised, *, out_axes: int = 1, axes: tuple[str, ...] = ()
) -> Array:
    """Contracts the trailing axes of x with the leading axes of the weights.

    Written as one product of two matrices: on XLA's CPU backend the gradient of the whole trunk is
    then faster than with more than one free axis, though not that of every single product.

    Args:
        x: [N, S, *inputs].
        weights: [*inputs, *outputs] in any float dtype, or quantised; cast to that of x.
        out_axes: number of output axes.
        axes: logical names of the axes of the weights; needed where they are quantised.

    Returns:
        [N, S, *outputs] in the dtype of x.
    """
    product = functools.partial(_product, out_axes=out_axes, axes=axes)
    if isinstance(weights, Quantised):
        # The backward pass gathers and dequantises again: it would keep the whole model.
        product = jax.checkpoint(product, prevent_cse=False)
    return product(x, weights)


def _product(
    x: Array, weights: Array | Quantised, *, out_axes: int, axes: tuple[str, ...]
) -> Array:
    inputs = math.prod(weights.shape[:-out_axes])
    outputs = weights.shape[-out_axes:]
    scale = None
    if isinstance(weights, Quantised):
        weights, scale = weights.gathered(axes).factors(x.dtype)
    matrix = weights.reshape(inputs, math.prod(outputs))
    # Rows and slots that are both split over the mesh would be gathered to become one axis.
    rows = x.shape[:2] if slots_are_split() else (-1,)
    y = checkpoint_name(matmul(x.reshape(*rows, inputs), matrix), "product")
    y = y.reshape(*x.shape[:2], *outputs)
    return y if scale is None else (y * scale.reshape(outputs)).astype(x.dtype)


class Projection(nnx.Module):
    """A linear map of every token, with an optional bias and an optional low-rank adapter."""

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        *,
        layers: int,
        inputs: dict[str, int],
        outputs: dict[str, int],
        std: float,
        rngs: nnx.Rngs,
        bias: bool = False,
    ):
        """`inputs` and `outputs` give logical axis names and sizes in order."""
        ins, outs = tuple(inputs.values()), tuple(outputs.values())
        self.out_axes, self.axes = len(outs), (*inputs, *outputs)
        self.kernel = make_param(
            rngs.params(),
            (layers, *ins, *outs),
            ("layers", *inputs, *outputs),
            normal(std),
            config,
        )
        if bias:
            self.bias = make_param(
                rngs.params(), (layers, *outs), ("layers", *outputs), constant(0.0), config
            )
        adapted = config.lora is not None and name in config.lora.modules
        self.lora = config.lora if adapted else None
        if adapted:
            rank = config.lora.rank
            # PyTorch's kaiming_uniform(a=sqrt(5)), as in the reference implementation.
            self.lora_a = make_param(
                rngs.adapters(),
                (layers, *ins, rank),
                ("layers", *inputs, "rank"),
                uniform(math.prod(ins) ** -0.5),
                config,
            )
            self.lora_b = make_param(
                rngs.adapters(),
                (layers, rank, *outs),
                ("layers", "rank", *outputs),
                constant(0.0),
                config,
            )
            if config.lora.kind == "lora_sb":
                self.lora_r = make_param(
                    rngs.adapters(),
                    (layers, rank, rank),
                    ("layers", "rank", "rank_out"),
                    constant(0.0),
                    config,
                )

    def __call__(self, x: Array) -> Array:
        """[N, S, *inputs] -> [N, S, *outputs]; x W + bias + scale * x A (R) B."""
        y = linear(x, self.kernel[...], out_axes=self.out_axes, axes=self.axes)
        if self.lora is not None:
            low = linear(x, self.lora_a[...])
            if self.lora.kind == "lora_sb":
                low = linear(low, self.lora_r[...])
            y += self.lora.scale * linear(low, self.lora_b[...], out_axes=self.out_axes)
        return y + self.bias[...].astype(y.dtype) if hasattr(self, "bias") else y


class Attention(nnx.Module):
    """Projections of grouped-query attention; what the queries see is the caller's `attend`."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        width, size = {"embed": config.width}, {"head_dim": config.head_dim}
        heads, kv_heads = {"heads": config.heads, **size}, {"kv_heads": config.kv_heads, **size}
        make = functools.partial(Projection, config=config, layers=layers, rngs=rngs)
        project = functools.partial(
            make, inputs=width, std=config.width**-0.5, bias=config.attention_bias
        )
        self.query = project("query", outputs=heads)
        self.key = project("key", outputs=kv_heads)
        self.value = project("value", outputs=kv_heads)
        # The residual stream adds 2L outputs; scaling them down keeps its variance at start.
        out_std = (config.heads * config.head_dim * 2 * config.layers) ** -0.5
        self.out = make("out", inputs=heads, outputs=width, std=out_std)
        if config.query_key_norm != "none":
            for name, shape in (("query_norm", heads), ("key_norm", kv_heads)):
                shape = size if config.query_key_norm == "head" else shape
                sizes, axes = tuple(shape.values()), tuple(shape)
                setattr(self, name, RMSNorm(config, layers=layers, shape=sizes, axes=axes))
        self.normed = config.query_key_norm != "none"

    def __call__(self, x: Array, rotation: Rotation, attend: Attend) -> Array:
        """x [N, S, D] -> [N, S, D]."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.normed:
            q, k = self.query_norm(q), self.key_norm(k)
        return self.out(attend(rotate(q, rotation), rotate(k, rotation), v))


class GatedMLP(nnx.Module):
    """Gated feed-forward: (act(x W_gate) * x W_up) W_down (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        width, hidden = {"embed": config.width}, {"mlp": config.mlp_width}
        make = functools.partial(Projection, config=config, layers=layers, rngs=rngs)
        self.gate = make("gate", inputs=width, outputs=hidden, std=config.width**-0.5)
        self.up = make("up", inputs=width, outputs=hidden, std=config.width**-0.5)
        down_std = (config.mlp_width * 2 * config.layers) ** -0.5
        self.down = make("down", inputs=hidden, outputs=width, std=down_std)
        self.activation = config.activation

    def __call__(self, x: Array) -> Array:
        """[N, S, D] -> [N, S, D]."""
        return self.down(ACTIVATIONS[self.activation](self.gate(x)) * self.up(x))
