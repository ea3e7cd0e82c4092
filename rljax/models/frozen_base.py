"""The frozen part of a parameter tree, in full or quantised (quantize.py), and its placement."""

import functools
from collections.abc import Callable, Collection

import jax
from jax import Array
from jax.sharding import Mesh

from rljax.models.lora import flatten, unflatten
from rljax.models.network import Leaves, Network, Params
from rljax.models.quantize import Quantised, quantise
from rljax.parallel.rules import fitting_sharding

Path = tuple[str, ...]  # of a parameter


def quantiser(network: Network, mesh: Mesh) -> Callable[[Path, Array], Array | Quantised]:
    """A function (path, parameter) -> the parameter in the form that `config.lora.base` names.

    The kernels of all projections are quantised, and deleted in full as soon as that is done.
    Embeddings, norms, biases, routers and experts keep their precision.
    """
    kernels, shardings = _kernels(network), flatten(parameter_shardings(network, mesh))

    def held(path: Path, leaf: Array) -> Array | Quantised:
        if path not in kernels:
            return leaf
        quantised = jax.jit(_quantise_of(network, path), out_shardings=shardings[path])(leaf)
        leaf.delete()
        return jax.block_until_ready(quantised)  # before the next one is made

    return held


def quantise_base(network: Network, frozen: Params, mesh: Mesh) -> Params:
    """A whole tree through `quantiser`; no more than one parameter at a time is held twice."""
    held = quantiser(network, mesh)
    return unflatten({path: held(path, leaf) for path, leaf in flatten(frozen).items()})


def quantised_in_parts(
    network: Network, mesh: Mesh, read: Callable[[Collection[Path]], Leaves]
) -> Params:
    """All parameters; of those that are quantised, only one at a time is held in full.

    Args:
        network: whose parameters.
        mesh: to place them on.
        read: makes the parameters with these paths; called once for each that is quantised, and
            once for all others.
    """
    held, kernels, paths = quantiser(network, mesh), _kernels(network), flatten(network.shapes)
    leaves = read([path for path in paths if path not in kernels])
    for path in kernels:
        leaves[path] = held(path, read([path])[path])
    return unflatten({path: leaves[path] for path in paths})


def parameter_shapes(network: Network) -> Params:
    """`network.shapes`, with the quantised matrices of the base."""
    leaves: Leaves = flatten(network.shapes)
    for path in _kernels(network):
        leaves[path] = jax.eval_shape(_quantise_of(network, path), leaves[path])
    return unflatten(leaves)


def parameter_shardings(network: Network, mesh: Mesh) -> Params:
    """`network.shardings(mesh)`, with the quantised matrices of the base.

    Codes are split as their matrix is; so are scales, along the axes where that is possible.
    """
    leaves = flatten(network.shardings(mesh))
    shapes = flatten(parameter_shapes(network))
    for path in _kernels(network):
        place = functools.partial(fitting_sharding, mesh, leaves[path].spec)
        leaves[path] = jax.tree.map(place, shapes[path])
    return unflatten(leaves)


def _kernels(network: Network) -> list[Path]:
    """Paths of the matrices that are quantised."""
    lora = network.config.lora
    if lora is None or lora.base == "full":
        return []
    return [path for path in flatten(network.shapes) if path[-1] == "kernel"]


def _quantise_of(network: Network, path: Path) -> functools.partial[Quantised]:
    # Only the attention's output has two axes of inputs: heads and their size.
    input_axes = 2 if path[-2] == "out" else 1
    return functools.partial(quantise, input_axes=input_axes, kind=network.config.lora.base)
