"""The optimizer's state in host memory while the devices are the sampler's."""

from typing import Any

import jax
from jax.sharding import Mesh

from rljax.config.asynchronous import FIELD
from rljax.training.update.state import TrainState

HOST = "pinned_host"  # jax's name for memory of the host that devices read and write


def check_host_memory(mesh: Mesh) -> None:
    """Raises ValueError unless the devices of a mesh can keep arrays in the host's memory."""
    device = mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ValueError(
            f"offload_optimizer=True needs memory of the kind {HOST!r}, and devices of platform "
            f"{device.platform!r} have {', '.join(map(repr, kinds))}: set it to False "
            f"({FIELD}.offload_optimizer)."
        )


def to_host_memory(state: TrainState) -> TrainState:
    """The state with its optimizer's arrays in host memory; those on the devices are freed."""
    return state.replace(optimizer_state=_moved(state.optimizer_state, HOST))


def to_device(state: TrainState) -> TrainState:
    """The state with its optimizer's arrays back on the devices."""
    return state.replace(optimizer_state=_moved(state.optimizer_state, "device"))


def _moved(tree: Any, kind: str) -> Any:
    wanted = jax.tree.map(lambda x: x.sharding.with_memory_kind(kind), tree)
    return jax.block_until_ready(jax.device_put(tree, wanted))
