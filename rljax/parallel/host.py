"""Arrays between the devices of all processes and the hosts.

Every process runs the same program and holds the same host arrays of a step. `put_rows` and
`from_host` (rules.py) take from them what the devices of a process need; `to_host` brings results
back whole.
"""

import functools
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from rljax.parallel.rules import replicated


def to_host(tree: Any) -> Any:
    """A pytree of arrays as NumPy arrays, whole, on every process; what is no array stays.

    Where no process holds all of an array its shards are gathered over the devices first: all
    processes have to call this together.
    """
    leaves, structure = jax.tree.flatten(tree)
    scattered = [place for place, leaf in enumerate(leaves) if not _is_whole(leaf)]
    if scattered:
        mesh = leaves[scattered[0]].sharding.mesh
        whole = _gatherer(mesh)(tuple(leaves[place] for place in scattered))
        for place, leaf in zip(scattered, whole, strict=True):
            leaves[place] = leaf
    return jax.device_get(structure.unflatten(leaves))


def _is_whole(leaf: Any) -> bool:
    """Whether this process can read all of an array."""
    return not isinstance(leaf, Array) or leaf.is_fully_addressable or leaf.is_fully_replicated


@functools.lru_cache
def _gatherer(mesh: Mesh) -> Any:
    return jax.jit(lambda leaves: leaves, out_shardings=replicated(mesh))
