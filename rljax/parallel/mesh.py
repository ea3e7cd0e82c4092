"""The device mesh: five axes, the same names on one CPU core and on a pod.

    data     rows of tokens; parameters are whole on each shard
    fsdp     rows of tokens, and the width axis of parameters
    expert   rows of tokens, and the experts of a mixture
    context  slots of rows, and heads inside attention
    tensor   heads, hidden units and the vocabulary

Devices exchange most along the last axes, along which they are near each other.
"""

import math
from collections.abc import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "expert", "context", "tensor")


def resolve_axis_sizes(sizes: dict[str, int], device_count: int) -> dict[str, int]:
    """Fills the one axis given as -1 so that the product of the axes is `device_count`.

    Args:
        sizes: axis name -> size; a size is >= 1, or -1 for "all remaining devices" (at most once).
        device_count: devices to use.

    Returns:
        axis name -> size in the order of `AXES`, with product `device_count`.

    Raises:
        ValueError: unknown axis, bad size, or a product that does not match the device count.
    """
    unknown = sorted(set(sizes) - set(AXES))
    if unknown:
        raise ValueError(f"Unknown mesh axes {unknown}; known: {list(AXES)} (config.mesh).")
    sizes = {axis: int(sizes.get(axis, 1)) for axis in AXES}
    bad = {axis: n for axis, n in sizes.items() if n < 1 and n != -1}
    free = [axis for axis, n in sizes.items() if n == -1]
    if bad or len(free) > 1:
        raise ValueError(
            f"Mesh sizes must be >= 1, at most one may be -1; got {sizes} (config.mesh)."
        )
    fixed = math.prod(n for n in sizes.values() if n != -1)
    if free and device_count % fixed == 0:
        sizes[free[0]] = device_count // fixed
    if math.prod(sizes.values()) != device_count:
        raise ValueError(
            f"The mesh {sizes} does not divide {device_count} devices: the product of the axes "
            f"must be the device count; set one axis to -1 to take what is left (config.mesh)."
        )
    return sizes


def make_mesh(sizes: dict[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh over `devices` (all by default).

    Neighbours along an axis are neighbours on the slice where that is possible; an axis may take
    a part of a direction of it. Between slices, or nodes of GPUs, lies a slower network: `data`,
    then `fsdp`, goes over it, and all other axes stay within a slice.

    Args:
        sizes: as for `resolve_axis_sizes`.
        devices: of one slice, or the same number of each of several.

    Raises:
        ValueError: for sizes that do not fit the devices, or that cannot be split over slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = resolve_axis_sizes(sizes, len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        placed = mesh_utils.create_device_mesh(
            tuple(sizes.values()), devices, allow_split_physical_axes=True
        )
    else:
        between = axis_sizes_between(slices, sizes)
        within = [size // between[axis] for axis, size in sizes.items()]
        placed = mesh_utils.create_hybrid_device_mesh(
            within, tuple(between.values()), devices, allow_split_physical_axes=True
        )
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def axis_sizes_between(slices: int, sizes: dict[str, int]) -> dict[str, int]:
    """How many slices each axis goes over: `data` as many as it can, `fsdp` the rest.

    Raises:
        ValueError: where these two axes do not divide so.
    """
    data = math.gcd(slices, sizes["data"])
    rest = slices // data
    if sizes["fsdp"] % rest:
        raise ValueError(
            f"The axes data ({sizes['data']}) and fsdp ({sizes['fsdp']}) cannot be split over "
            f"{slices} slices: a multiple of {slices} is needed in data, or in both together "
            "(config.mesh)."
        )
    return dict.fromkeys(sizes, 1) | {"data": data, "fsdp": rest}


def widest_mesh(width: int) -> Mesh:
    """A mesh whose axis `fsdp` splits parameters over as many devices as their width allows."""
    shards = math.gcd(width, len(jax.devices()))
    return make_mesh({"fsdp": shards}, jax.devices()[:shards])


def remesh(mesh: Mesh, sizes: dict[str, int]) -> Mesh:
    """The devices of a mesh, in the same order, under other sizes (`resolve_axis_sizes`)."""
    sizes = resolve_axis_sizes(sizes, mesh.size)
    devices = mesh.devices.reshape(tuple(sizes.values()))
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))
