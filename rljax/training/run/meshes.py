"""Which devices of a run train, and which only sample."""

from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.asynchronous import FIELD
from rljax.parallel.halfway import halfway_mesh


def sampler_sizes(config: ConfigDict) -> dict[str, int]:
    """The sizes of the sampler's own mesh; {} where the config gives none."""
    given = {axis: size for axis, size in config.sampler.mesh.to_dict().items() if size is not None}
    return {"data": -1} | given if given else {}


def run_meshes(config: ConfigDict, make: Callable[..., Mesh]) -> tuple[Mesh, Mesh | None]:
    """The mesh of the trainer, and that of devices that only sample, where there are some.

    The last `config.asynchronous.sampler_devices` of the run's devices only sample; the two meshes
    share none. With several processes each gives its last ones: every process runs the programs of
    both meshes.

    Args:
        config: of the run.
        make: `make_mesh(sizes)`, and `make_mesh(sizes, devices)` where devices are split.

    Raises:
        ValueError: if sizes, devices and processes do not fit.
    """
    count = config.asynchronous.sampler_devices
    if not count:
        return make(config.mesh.to_dict()), None
    trainer, own = split_devices(jax.devices(), count)
    sizes = sampler_sizes(config) or {"data": -1}
    trains, samples = make(config.mesh.to_dict(), trainer), make(sizes, own)
    if config.asynchronous.transfer == "direct" and jax.process_count() > 1:
        halfway_mesh(trains, samples)  # refuses before anything compiles
    return trains, samples


def split_devices(
    devices: Sequence[jax.Device], count: int
) -> tuple[list[jax.Device], list[jax.Device]]:
    """The devices that train, and the `count` that only sample: equally many of each process.

    Raises:
        ValueError: if a process would be left without devices of one kind.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in devices:
        by_process.setdefault(device.process_index, []).append(device)
    if count >= len(devices):
        raise ValueError(
            f"sampler_devices={count} of {len(devices)} devices leaves none to train: it must be "
            f"less ({FIELD}.sampler_devices)."
        )
    if count % len(by_process):
        raise ValueError(
            f"sampler_devices={count} does not divide over {len(by_process)} processes, each of "
            f"which gives equally many: take a multiple of it ({FIELD}.sampler_devices)."
        )
    each = count // len(by_process)
    trainer = [device for own in by_process.values() for device in own[:-each]]
    return trainer, [device for own in by_process.values() for device in own[-each:]]
