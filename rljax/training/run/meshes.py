"""Which devices of a run train, and which only sample."""

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.asynchronous import FIELD, runs_ahead
from rljax.parallel.mesh import make_mesh


def sampler_sizes(config: ConfigDict) -> dict[str, int]:
    """The sizes of the sampler's own mesh; {} where the config gives none."""
    given = {axis: size for axis, size in config.sampler.mesh.to_dict().items() if size is not None}
    return {"data": -1} | given if given else {}


def run_meshes(config: ConfigDict) -> tuple[Mesh, Mesh | None]:
    """The mesh of the trainer, and that of devices that only sample, where there are some.

    The last `config.asynchronous.sampler_devices` of the run's devices only sample; the two meshes
    share none.

    Args:
        config: of the run.

    Raises:
        ValueError: if sizes and devices do not fit, or with several processes.
    """
    if runs_ahead(config) and jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes, and a sampler ahead: its thread would start "
            "programs in another order on every process. Set max_staleness=0 and "
            f"sampler_devices=0, or start a single process ({FIELD}.max_staleness)."
        )
    count = config.asynchronous.sampler_devices
    if not count:
        return make_mesh(config.mesh.to_dict()), None
    devices = jax.devices()
    if count >= len(devices):
        raise ValueError(
            f"sampler_devices={count} of {len(devices)} devices leaves none to train: it must be "
            f"less ({FIELD}.sampler_devices)."
        )
    trainer, own = devices[:-count], devices[-count:]
    own_sizes = sampler_sizes(config) or {"data": -1}
    return make_mesh(config.mesh.to_dict(), trainer), make_mesh(own_sizes, own)
