"""Mixture of experts: a router sends each token to K of E gated MLPs (arXiv:1701.06538).

No token is ever dropped. The (token, choice) pairs are sorted by expert, so that every expert
multiplies the rows sent to it and nothing else (grouped_matmul.py).

Over the mesh axis "expert" the experts are split, and so are the rows of tokens. Each device
gathers the tokens of that axis and runs its own experts on them; the results are summed and split
again. On up to K devices an all-to-all of the pairs would send as much, and would need memory for
the worst case of routing.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import PartitionSpec

from rljax.models.config import ModelConfig
from rljax.models.grouped_matmul import Split, grouped_matmul
from rljax.models.layers import ACTIVATIONS, make_param, normal
from rljax.parallel.rules import RULES, partition_spec

EXPERT, MLP, EMBED, BATCH, SEQUENCE = (
    RULES[name] for name in ("experts", "mlp", "embed", "batch", "sequence")
)
GATE_AXES, DOWN_AXES = ("experts", "embed", "mlp"), ("experts", "mlp", "embed")

# Keeps the gates finite where all chosen scores have underflowed.
SMALLEST_SUM = 1e-20


class Routing(NamedTuple):
    """Where the tokens of a batch were sent; padding is not counted."""

    counts: Array  # [E] f32, (token, choice) pairs sent to each expert
    probabilities: Array  # [E] f32, sum over tokens of the scores, which sum to 1 over experts
    tokens: Array  # [] f32, tokens routed


class Choice(NamedTuple):
    """What the router makes of each token."""

    experts: Array  # [t, K] i32, by descending score
    gates: Array  # [t, K] f32, weights of their outputs
    probabilities: Array  # [t, E] f32, scores that sum to 1


def choose_experts(x: Array, router: Array, bias: Array | None, config: ModelConfig) -> Choice:
    """Routes tokens, in float32.

    The bias decides only which experts are chosen; gates come from the scores without it
    (arXiv:2408.15664, equation 3), and no gradient reaches it.

    Args:
        x: [t, D].
        router: [D, E].
        bias: [E] f32, or None.
        config: score, K and whether the gates of a token sum to 1.
    """
    x, router = x.astype(jnp.float32), router.astype(jnp.float32)
    logits = jnp.matmul(x, router, precision=jax.lax.Precision.HIGHEST)
    if config.router_score == "softmax":
        scores = probabilities = jax.nn.softmax(logits, axis=-1)
    else:
        scores = jax.nn.sigmoid(logits)
        probabilities = scores / (scores.sum(axis=-1, keepdims=True) + SMALLEST_SUM)
    ranked = scores if bias is None else scores + bias
    experts = jax.lax.top_k(jax.lax.stop_gradient(ranked), config.experts_per_token)[1]
    gates = jnp.take_along_axis(scores, experts, axis=-1)
    if config.normalise_router:
        gates = gates / (gates.sum(axis=-1, keepdims=True) + SMALLEST_SUM)
    return Choice(experts, gates, probabilities)


class _Weights(NamedTuple):
    """Parameters of one layer."""

    router: Array  # [D, E]
    router_bias: Array | None  # [E] f32
    gate: Array  # [E, D, F]
    up: Array  # [E, D, F]
    down: Array  # [E, F, D]


class MixtureOfExperts(nnx.Module):
    """E gated MLPs, of which each token uses K."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        experts, width, hidden = config.experts, config.width, config.expert_width

        def make(shape: tuple[int, ...], axes: tuple[str, ...], std: float) -> nnx.Param:
            return make_param(
                rngs.params(), (layers, *shape), ("layers", *axes), normal(std), config
            )

        self.config = config
        self.router = make((width, experts), ("embed", "experts"), width**-0.5)
        self.gate = make((experts, width, hidden), GATE_AXES, width**-0.5)
        self.up = make((experts, width, hidden), GATE_AXES, width**-0.5)
        # As in a dense MLP, whose output has the variance of a single expert's.
        down_std = (hidden * 2 * config.layers) ** -0.5
        self.down = make((experts, hidden, width), DOWN_AXES, down_std)
        if config.router_bias:
            # Steps of 0.001 would be lost in bfloat16.
            zeros = jnp.zeros((layers, experts), jnp.float32)
            self.router_bias = nnx.Param(zeros, logical_axes=("layers", "experts"))

    def __call__(self, x: Array, present: Array) -> tuple[Array, Routing]:
        """Runs the chosen experts of every token.

        Args:
            x: [N, S, D].
            present: [N, S] bool, False on padding, which is sent nowhere and becomes 0.

        Returns:
            [N, S, D] in the dtype of x, and the routing of the whole batch.
        """
        bias = self.router_bias[...] if self.config.router_bias else None
        weights = _Weights(self.router[...], bias, self.gate[...], self.up[...], self.down[...])
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty:
            return _mixture(weights, x, present, config=self.config, sizes={}, token_axes=())
        return _on_mesh(weights, x, present, self.config, dict(mesh.shape))


def _on_mesh(
    weights: _Weights, x: Array, present: Array, config: ModelConfig, sizes: dict[str, int]
) -> tuple[Array, Routing]:
    """`_mixture` on every device of the mesh that is set."""
    rows, slots, _ = x.shape
    missing = -rows % math.prod(sizes[axis] for axis in BATCH)
    x, present = (
        jnp.pad(array, ((0, missing), *[(0, 0)] * (array.ndim - 1))) for array in (x, present)
    )
    # The single slot of a decoding step cannot be split.
    sequence = SEQUENCE if slots % sizes[SEQUENCE] == 0 else None
    tokens = PartitionSpec(BATCH, sequence)
    whole = PartitionSpec()
    run = jax.shard_map(
        functools.partial(
            _mixture,
            config=config,
            sizes=sizes,
            token_axes=BATCH if sequence is None else (*BATCH, sequence),
        ),
        in_specs=(
            # The router is small: every device takes it whole.
            _Weights(whole, whole, *map(partition_spec, (GATE_AXES, GATE_AXES, DOWN_AXES))),
            tokens,
            tokens,
        ),
        out_specs=(tokens, whole),
        check_vma=False,
    )
    y, routing = run(weights, x, present)
    return y[:rows], routing


def _mixture(
    weights: _Weights,
    x: Array,
    present: Array,
    *,
    config: ModelConfig,
    sizes: dict[str, int],
    token_axes: tuple[str, ...],
) -> tuple[Array, Routing]:
    """One device's part: its tokens [n, s, D] and its experts; `sizes`: of the mesh's axes.

    Where axes have size 1, or there is no mesh, nothing is communicated.
    """
    shape, split = x.shape, {axis for axis, size in sizes.items() if size > 1}
    x, present = x.reshape(-1, shape[-1]), present.reshape(-1, 1)
    choice = choose_experts(x, weights.router, weights.router_bias, config)
    chosen = jnp.where(present, choice.experts, config.experts)  # padding: no expert
    gates = choice.gates
    routing = Routing(
        counts=_count(chosen, config.experts).astype(jnp.float32),
        probabilities=jnp.where(present, choice.probabilities, 0.0).sum(axis=0),
        tokens=present.sum().astype(jnp.float32),
    )
    if axes := tuple(axis for axis in token_axes if axis in split):
        routing = jax.lax.psum(routing, axes)
    if EXPERT in split:
        gather = functools.partial(jax.lax.all_gather, axis_name=EXPERT, tiled=True)
        x, gates, chosen = gather(x), gather(gates), gather(chosen)
        chosen = chosen - jax.lax.axis_index(EXPERT) * len(weights.gate)
    y = _run_experts(weights, x, gates, chosen, config, split)
    if MLP in split:
        y = jax.lax.psum(y, MLP)
    if EXPERT in split:
        y = jax.lax.psum_scatter(y, EXPERT, scatter_dimension=0, tiled=True)
    return y.reshape(shape), routing


def _count(chosen: Array, experts: int) -> Array:
    """[E] i32, how often each expert is in `chosen`; other numbers are not counted."""
    return (chosen.reshape(-1, 1) == jnp.arange(experts)).sum(axis=0, dtype=jnp.int32)


def _run_experts(
    weights: _Weights, x: Array, gates: Array, chosen: Array, config: ModelConfig, split: set[str]
) -> Array:
    """[t, D]: for each token, the sum over those of its experts that are on this device.

    Args:
        weights: of G experts.
        x: [t, D].
        gates: [t, K] f32.
        chosen: [t, K] i32, counted from the first expert that is here; others are outside 0..G-1.
        config: for the activation.
        split: the mesh axes that split anything.
    """
    pairs = _sort(chosen, len(weights.gate))

    def multiply(rows: Array, matrices: Array, axes: tuple[str, ...]) -> Array:
        width = Split(EMBED, axes.index("embed")) if EMBED in split else None
        return grouped_matmul(rows, matrices, pairs.sizes, width)

    rows = _spread(x, pairs.of_tokens)
    gate, up = (multiply(rows, matrix, GATE_AXES) for matrix in (weights.gate, weights.up))
    hidden = ACTIVATIONS[config.activation](gate) * up
    # Weighing here is the same as weighing what `down` makes of it, and F is less than D.
    weighed = hidden * _spread(gates.reshape(-1, 1), pairs.of_choices)
    return _collect(multiply(weighed.astype(x.dtype), weights.down, DOWN_AXES), pairs.of_tokens)


class _Places(NamedTuple):
    """Which sorted rows hold which item; an item is a token, or one of its choices."""

    items: Array  # [R] i32, the item of each row
    rows: Array  # [items, k] i32, the rows of each item
    kept: Array  # [items, k] bool, whether that row belongs to an expert


class _Pairs(NamedTuple):
    """The (token, choice) pairs, sorted by expert."""

    sizes: Array  # [G] i32, rows of each expert
    of_tokens: _Places  # [t, K]
    of_choices: _Places  # [t * K, 1]


def _sort(chosen: Array, experts: int) -> _Pairs:
    """Sorts the pairs by expert, those of experts elsewhere last."""
    tokens, choices = chosen.shape
    here = (chosen >= 0) & (chosen < experts)
    pairs = jnp.argsort(jnp.where(here, chosen, experts).reshape(-1), stable=True)
    numbers = jnp.arange(len(pairs), dtype=jnp.int32)
    rows = jnp.zeros_like(numbers).at[pairs].set(numbers, unique_indices=True)
    # A token's choices differ: no more pairs than these can go to experts on this device.
    room = tokens * min(choices, experts)
    rows = jnp.minimum(rows, room - 1).reshape(chosen.shape)
    pairs = pairs[:room].astype(jnp.int32)
    return _Pairs(
        sizes=_count(chosen, experts),
        of_tokens=_Places(pairs // choices, rows, here),
        of_choices=_Places(pairs, rows.reshape(-1, 1), here.reshape(-1, 1)),
    )


@jax.custom_vjp
def _spread(x: Array, places: _Places) -> Array:
    """[items, D] -> [R, D], each row a copy of its item.

    This and `_collect` are each other's transpose. JAX would make scatters of their gradients.
    """
    return x[places.items]


@jax.custom_vjp
def _collect(rows: Array, places: _Places) -> Array:
    """[R, D] -> [items, D], each item the float32 sum of its kept rows."""
    kept = jnp.where(places.kept[..., None], rows[places.rows], 0)
    return kept.sum(axis=1, dtype=jnp.float32).astype(rows.dtype)


_spread.defvjp(
    lambda x, places: (_spread(x, places), places), lambda places, d: (_collect(d, places), None)
)
_collect.defvjp(
    lambda rows, places: (_collect(rows, places), places),
    lambda places, d: (_spread(d, places), None),
)
