"""Arrays from some devices to others of the same processes, where no process has all of either.

In one process jax copies between any devices. In several it does so only where the runtime has a
transfer service, which CPUs with gloo and many pods do not have. Here none is needed, as every
process has devices of both kinds:

    devices of the first kind, as an array lies
        │   one collective among these devices
        ▼
    the same devices, each with what those of the other kind beside it in its process need
        │   copies within a process
        ▼
    devices of the other kind, as the array is wanted
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

COPIES = "copies"  # axis of the halfway mesh along which nothing is split


def halfway_mesh(trainer: Mesh, sampler: Mesh) -> Mesh:
    """The trainer's devices in the shape of the sampler's mesh, each beside those that it serves.

    With more trainer's devices in a process than sampler's, several have the same part (`COPIES`);
    with fewer, a device has what several of the sampler's need, next to each other in its mesh.

    Raises:
        ValueError: if neither number divides the other, or devices next to each other in the
            sampler's mesh are of two processes.
    """
    own = _by_process(trainer.devices.flat)
    theirs = _by_process(sampler.devices.flat)
    trains, samples = (len(next(iter(each.values()))) for each in (own, theirs))
    sizes = halved(sampler.shape, trains, samples)
    served, copies = max(samples // trains, 1), sizes[COPIES]
    left = {process: iter(devices) for process, devices in own.items()}
    flat, devices = list(sampler.devices.flat), []
    for first in range(0, len(flat), served):
        processes = {device.process_index for device in flat[first : first + served]}
        if len(processes) > 1:
            raise ValueError(_refused(trains, samples, sampler.shape))
        devices += itertools.islice(left[processes.pop()], copies)
    return Mesh(np.array(devices).reshape(tuple(sizes.values())), tuple(sizes))


def halved(sampler: Mapping[str, int], trains: int, samples: int) -> dict[str, int]:
    """The sizes of the halfway mesh: those of the sampler's, its last axes by groups.

    Args:
        sampler: axis -> size.
        trains, samples: devices of each kind in a process.

    Raises:
        ValueError: if neither divides the other, or groups cut an axis into uneven parts.
    """
    sizes, group = dict(sampler), samples // trains if samples % trains == 0 else 1
    for axis in reversed(sizes):
        common = math.gcd(sizes[axis], group)
        if group > 1 and common != min(sizes[axis], group):
            break
        sizes[axis], group = sizes[axis] // common, group // common
    if group > 1 or max(trains, samples) % min(trains, samples):
        raise ValueError(_refused(trains, samples, sampler))
    return sizes | {COPIES: max(trains // samples, 1)}


def _refused(trains: int, samples: int, sampler: Mapping[str, int]) -> str:
    sizes = " ".join(f"{axis}={size}" for axis, size in sampler.items() if size > 1)
    return (
        f"transfer='direct' copies weights within a process, and {trains} devices that train do "
        f"not divide evenly over {samples} that sample in each, with the sampler's mesh "
        f"{sizes or 'of one device'}: change sampler_devices, or take 'host' or 'storage' "
        "(config.asynchronous.transfer, config.asynchronous.sampler_devices)."
    )


def _by_process(devices: Iterable[jax.Device]) -> dict[int, list[jax.Device]]:
    found: dict[int, list[jax.Device]] = {}
    for device in devices:
        found.setdefault(device.process_index, []).append(device)
    return found


def moved(leaf: Array, halfway: Mesh, place: NamedSharding) -> Array:
    """An array on other devices.

    Args:
        leaf: to move.
        halfway: of `halfway_mesh`, over the devices that it is on.
        place: where it is wanted.
    """
    near = jax.device_put(leaf, NamedSharding(halfway, place.spec))
    wanted = place.addressable_devices_indices_map(leaf.shape)
    parts = [_part(near, index, device) for device, index in wanted.items()]
    moved = jax.make_array_from_single_device_arrays(leaf.shape, place, parts)
    return jax.block_until_ready(moved)  # what lay halfway is freed before the next array


def _part(near: Array, wanted: tuple[slice, ...], device: jax.Device) -> Array:
    """The part of an array that a device needs, from a shard of this process."""
    for shard in near.addressable_shards:
        inside = within(wanted, shard.index, near.shape)
        if inside is not None:
            whole = all(
                each == slice(0, n) for each, n in zip(inside, shard.data.shape, strict=True)
            )
            return jax.device_put(shard.data if whole else shard.data[inside], device)
    raise AssertionError(f"No shard of this process has {wanted} of {near.sharding}.")


def within(
    wanted: tuple[slice, ...], held: tuple[slice, ...], shape: Sequence[int]
) -> tuple[slice, ...] | None:
    """Where a part lies in a shard; None: not all of it does.

    Args:
        wanted, held: slices of an array, by axis.
        shape: of the array.
    """
    found = []
    for part, all_of, size in zip(wanted, held, shape, strict=True):
        (start, stop, _), (first, last, _) = part.indices(size), all_of.indices(size)
        if start < first or stop > last:
            return None
        found.append(slice(start - first, stop - first))
    return tuple(found)
