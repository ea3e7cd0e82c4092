"""The sampler's own copy of the parameters: layer by layer, perhaps in fewer bits.

The trainer's parameters are stacked, in float32 perhaps, and split over fsdp. Decoding reads all of
them once for every token, so it wants layers apart, few bytes, and nothing to gather.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from rljax.models.config import ModelConfig
from rljax.models.network import Network, Params
from rljax.models.quantize import Quantised, quantise
from rljax.parallel.rules import fitting_sharding, partition_spec

PRECISIONS = ("", "bfloat16", "int8")


def sampling_network(network: Network, precision: str) -> Network:
    """The network that computes with weights of this precision.

    Args:
        network: of the trainer.
        precision: "": as trained; "bfloat16": weights, activations and cache; "int8": the matrices
            of the projections, the rest as trained.

    Raises:
        ValueError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"Unknown precision {precision!r} of the sampler's weights; known: '' (as trained), "
            "'bfloat16', 'int8' (config.sampler.weights)."
        )
    if precision != "bfloat16":
        return network
    config: ModelConfig = dataclasses.replace(
        network.config, dtype="bfloat16", param_dtype="bfloat16"
    )
    return dataclasses.replace(Network.create(config), logical_axes=network.logical_axes)


def sampling_weights(
    network: Network, params: Params, precision: str, *, apart: bool = True
) -> Params:
    """Parameters as the sampler reads them.

    Args:
        network: of the sampler (`sampling_network`).
        params: of the trainer. Matrices that are quantised already stay as they are.
        precision: of the copy.
        apart: whether layers are apart (`Network.unstack`), as decoding wants them.
    """
    if precision == "bfloat16":
        params = jax.tree.map(_in_bfloat16, params, is_leaf=_is_quantised)
    if precision == "int8":
        blocks = jax.tree_util.tree_map_with_path(_in_int8, params["blocks"], is_leaf=_is_quantised)
        params = {**params, "blocks": blocks}
    return network.unstack(params) if apart else params


def _is_quantised(leaf: Any) -> bool:
    return isinstance(leaf, Quantised)


def _in_bfloat16(leaf: jax.Array | Quantised) -> jax.Array | Quantised:
    """An array in bfloat16; a quantised matrix as it is."""
    return leaf if _is_quantised(leaf) else leaf.astype(jnp.bfloat16)


def _in_int8(path: tuple, leaf: jax.Array | Quantised) -> jax.Array | Quantised:
    """The stacked matrix of a projection in int8, anything else as it is."""
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    if _is_quantised(leaf) or names[-1] != "kernel":
        return leaf
    return quantise(leaf, 2 if names[-2] == "out" else 1, "int8")


def weight_shardings(network: Network, weights: Params, mesh: Mesh, *, gather: bool) -> Params:
    """Where the leaves of `sampling_weights` lie.

    Args:
        network: whose weights.
        weights: arrays or their shapes.
        mesh: of the sampler.
        gather: whether every device holds whole what the trainer splits over fsdp.
    """
    whole_axis = {"embed": "width"} if gather else {}

    def place(axes: tuple[str, ...], leaf: jax.Array | Quantised) -> NamedSharding | Quantised:
        spec = partition_spec([whole_axis.get(axis, axis) for axis in axes])
        return jax.tree.map(functools.partial(fitting_sharding, mesh, spec), leaf)

    def tree(axes: Params, leaves: Params, skip: int) -> Params:
        return jax.tree.map(
            lambda axes, leaf: place(axes[skip:], leaf),
            axes,
            leaves,
            is_leaf=lambda node: isinstance(node, tuple),
        )

    axes = dict(network.logical_axes)
    block_axes = axes.pop("blocks")
    rest = {name: leaf for name, leaf in weights.items() if name != "blocks"}
    if isinstance(weights["blocks"], tuple):
        blocks = tuple(tree(block_axes, layer, skip=1) for layer in weights["blocks"])
    else:
        blocks = tree(block_axes, weights["blocks"], skip=0)
    return {**tree(axes, rest, skip=0), "blocks": blocks}
