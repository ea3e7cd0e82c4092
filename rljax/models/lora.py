"""Low-rank adapters: which leaves are trained, joining and merging them, and how they start.

    LoRA, rsLoRA   y = x W + s x A B      A random, B = 0; s = alpha / r or alpha / sqrt(r)
    LoRA-SB        y = x W + s x A R B    A and B fixed, only R is trained

in our layout, inputs first: W [*in, *out], A [*in, r], R [r, r], B [r, *out]
(arXiv:2106.09685, arXiv:2312.03732, arXiv:2411.19557). The forward pass is `layers.Projection`.

A parameter tree falls into three parts, told apart by names alone:

    optimised   changed by the optimizer
    held        part of the state that the optimizer leaves alone: the balancing bias of a router,
                and the A and B of LoRA-SB, which come from data and could not be made again
    frozen      everything else where there are adapters; nothing where there are none
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.config import LoRAConfig
from rljax.models.network import Leaves, Network, Params

ADAPTER = ("lora_a", "lora_b", "lora_r")
# Trained in full also where there are adapters.
HEAD = ("head", "head_bias")
ROUTER_BIAS = "router_bias"


def flatten(tree: Params) -> Leaves:
    """Nested dicts -> {path: leaf}; whatever is no dict is a leaf."""
    flat: Leaves = {}
    for name, node in tree.items():
        if isinstance(node, dict):
            flat |= {(name, *path): leaf for path, leaf in flatten(node).items()}
        else:
            flat[(name,)] = node
    return flat


def unflatten(leaves: Leaves) -> Params:
    """The inverse of `flatten`; a dict without leaves does not come back."""
    tree: Params = {}
    for (*folders, name), leaf in leaves.items():
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


def has_adapters(tree: Params) -> bool:
    """Whether any leaf belongs to an adapter."""
    return any(path[-1] in ADAPTER for path in flatten(tree))


def split_frozen(tree: Params) -> tuple[Params, Params]:
    """(state, frozen): what a TrainState holds, and what lives outside of it.

    Works on any tree of the network's structure: parameters, shapes, shardings, logical axes.
    """
    if not has_adapters(tree):
        return tree, {}
    return _split(tree, lambda path: path[-1] in (*ADAPTER, *HEAD, ROUTER_BIAS))


def split_held(state: Params) -> tuple[Params, Params]:
    """(optimised, held) of the leaves of a state."""
    leaves = flatten(state)

    def optimised(path: tuple[str, ...]) -> bool:
        fixed = path[-1] in ("lora_a", "lora_b") and (*path[:-1], "lora_r") in leaves
        return path[-1] != ROUTER_BIAS and not fixed

    return _split(state, optimised)


def _split(tree: Params, wanted: Callable[[tuple[str, ...]], bool]) -> tuple[Params, Params]:
    leaves = flatten(tree)
    first = {path: leaf for path, leaf in leaves.items() if wanted(path)}
    second = {path: leaf for path, leaf in leaves.items() if path not in first}
    return unflatten(first), unflatten(second)


def combine(*trees: Params) -> Params:
    """One tree with the leaves of all; no leaf is copied.

    Raises:
        ValueError: if two trees have the same leaf.
    """
    joined: Leaves = {}
    for tree in trees:
        leaves = flatten(tree)
        if both := joined.keys() & leaves.keys():
            raise ValueError(f"Two trees hold {'.'.join(min(both))}.")
        joined |= leaves
    return unflatten(joined)


def drop_adapters(tree: Params) -> Params:
    """The tree without the leaves of adapters: the frozen model itself, same buffers."""
    return _split(tree, lambda path: path[-1] not in ADAPTER)[0]


def keep_adapters(tree: Params) -> Params:
    """The leaves of adapters alone."""
    return _split(tree, lambda path: path[-1] in ADAPTER)[0]


def without_adapters(network: Network) -> Network:
    """The network of the frozen model, whose parameters are `drop_adapters(params)`."""
    if network.config.lora is None:
        return network
    return Network.create(dataclasses.replace(network.config, lora=None))


def adapters_are_zero(params: Params) -> bool:
    """Whether every adapter leaves its matrix as it is; reads from the device."""
    return not any(
        bool(jnp.any(leaf != 0)) for path, leaf in flatten(params).items() if path[-1] == "lora_b"
    )


def projections(network: Network) -> list[tuple[str, ...]]:
    """Paths of the projections that carry an adapter, such as ("blocks", "attention", "query")."""
    return [path[:-1] for path in flatten(network.shapes) if path[-1] == "lora_a"]


def merge_adapters(network: Network, params: Params) -> tuple[Network, Params]:
    """Adds every adapter to its matrix: W + s A (R) B, summed in float32 and cast once.

    The parameters are donated, matrix by matrix, so that the model is not held twice; they keep
    their sharding. A quantised matrix becomes a full one in the config's `param_dtype`.

    Returns:
        The network without adapters and its parameters.
    """
    lora, leaves = network.config.lora, flatten(drop_adapters(params))
    if lora is None:
        return network, params
    adapters, merged = flatten(keep_adapters(params)), without_adapters(network)
    dtype = jnp.dtype(network.config.param_dtype)
    add = jax.jit(functools.partial(merged_kernel, scale=lora.scale, dtype=dtype), donate_argnums=0)
    for path in projections(network):
        kernel = leaves[(*path, "kernel")]
        low_rank = (adapters[(*path, name)] for name in ADAPTER if (*path, name) in adapters)
        leaves[(*path, "kernel")] = add(kernel, *low_rank)
    return merged, unflatten(leaves)


def merged_kernel(
    kernel: Any,
    a: Array,
    b: Array,
    r: Array | None = None,
    *,
    scale: float,
    dtype: Any = None,
) -> Array:
    """[L, *in, *out] W + scale A (R) B.

    Args:
        kernel: W, an array or a quantised matrix.
        a: [L, *in, r].
        b: [L, r, *out].
        r: [L, r, r] of LoRA-SB.
        scale: s.
        dtype: of the result; by default that of the kernel.
    """
    dtype = kernel.dtype if dtype is None else dtype
    exact = functools.partial(
        jnp.einsum,
        precision="highest",
        preferred_element_type=jnp.promote_types(a.dtype, "float32"),
    )
    low = a if r is None else exact("l...i,lij->l...j", a, r)
    inputs, outputs = a.shape[1:-1], b.shape[2:]
    layers, rank = b.shape[:2]
    low = low.reshape(layers, math.prod(inputs), rank)
    change = exact("lir,lro->lio", low, b.reshape(layers, rank, -1))
    change = change.reshape(layers, *inputs, *outputs)
    return (kernel.astype(change.dtype) + scale * change).astype(dtype)


def silver_bullet(
    gradient: Array, input_axes: int, rank: int, *, step_size: Array | float, scale: float
) -> dict[str, Array]:
    """A, B and R of LoRA-SB for one matrix (arXiv:2411.19557, algorithm 1).

        DW = -step_size sign(g),   DW ~ U_r S_r V_r^T,   A = U_r,  B = V_r^T,  R = diag(S_r) / scale

    so that scale A R B is the best approximation of rank r of the first step of full fine-tuning,
    and that step is taken: training starts from W + DW_r.

    Args:
        gradient: [*in, *out] of the loss in the matrix; only its sign is used.
        input_axes: number of input axes.
        rank: r; at most the smaller side of the matrix.
        step_size: learning rate of the first update.
        scale: s of the adapters.

    Returns:
        lora_a [*in, r], lora_b [r, *out], lora_r [r, r], at least float32.
    """
    inputs, outputs = gradient.shape[:input_axes], gradient.shape[input_axes:]
    exact = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    step = -step_size * jnp.sign(exact).reshape(math.prod(inputs), math.prod(outputs))
    left, sizes, right = jnp.linalg.svd(step, full_matrices=False)
    return {
        "lora_a": left[:, :rank].reshape(*inputs, rank),
        "lora_b": right[:rank].reshape(rank, *outputs),
        "lora_r": jnp.diag(sizes[:rank]) / scale,
    }


def check_rank(network: Network) -> None:
    """Raises ValueError if LoRA-SB is asked for more directions than a matrix has."""
    lora: LoRAConfig | None = network.config.lora
    if lora is None or lora.kind != "lora_sb":
        return
    shapes = flatten(network.shapes)
    for path in projections(network):
        inputs = math.prod(shapes[(*path, "lora_a")].shape[1:-1])
        smallest = min(inputs, math.prod(shapes[(*path, "lora_b")].shape[2:]))
        if lora.rank > smallest:
            raise ValueError(
                f"LoRA-SB takes its bases from matrices: rank={lora.rank} is more than the "
                f"{smallest} directions of {'.'.join(path)} (config.model.lora.rank)."
            )
