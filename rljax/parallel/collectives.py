"""Whether the devices of a mesh reach each other: one small sum along every axis."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rljax.parallel.rules import from_host


def check_collectives(mesh: Mesh) -> dict[str, float]:
    """Adds the numbers of the devices up along each axis, and compares.

    Returns:
        Axis -> seconds, its compilation included; axes of one device are left out.

    Raises:
        RuntimeError: if a sum is wrong.
    """
    spec = PartitionSpec(*mesh.axis_names)
    numbers = np.arange(mesh.size, dtype=np.float32).reshape(mesh.devices.shape)
    placed = from_host(numbers, NamedSharding(mesh, spec))
    seconds = {}
    for position, axis in enumerate(mesh.axis_names):
        if mesh.shape[axis] == 1:
            continue
        began = time.perf_counter()
        added = _added(mesh, spec, axis, placed)
        seconds[axis] = time.perf_counter() - began
        expected = np.broadcast_to(numbers.sum(position, keepdims=True), numbers.shape)
        for shard in added.addressable_shards:
            if not np.array_equal(np.asarray(shard.data), expected[shard.index]):
                raise RuntimeError(f"{shard.device} got a wrong sum along the mesh axis {axis!r}.")
    return seconds


def _added(mesh: Mesh, spec: PartitionSpec, axis: str, numbers: Array) -> Array:
    def add(number: Array) -> Array:
        return jnp.broadcast_to(jax.lax.psum(number, axis), number.shape)

    mapped = jax.shard_map(add, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return jax.block_until_ready(jax.jit(mapped)(numbers))
