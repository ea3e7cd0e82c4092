"""One table from logical axis names to mesh axes; every sharding in rljax follows from it.

A parameter of the model carries logical names, e.g. ("layers", "embed", "heads", "head_dim").
With the table below, on the mesh (data, fsdp, tensor), it is split over `fsdp` along its embed
axis and over `tensor` along its heads, and is replicated over `data`.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

RULES: dict[str, tuple[str, ...] | str | None] = {
    "batch": ("data", "fsdp"),  # rows of tokens, and of the KV cache
    "sequence": None,
    "vocab": "tensor",
    "embed": "fsdp",  # the width axis of parameters
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "layers": None,
    "width": None,  # the width axis of activations, whose rows are already split over fsdp
}


def partition_spec(axes: Sequence[str | None]) -> PartitionSpec:
    """Logical axis names (None: replicated) -> PartitionSpec.

    Raises:
        ValueError: for a name that the table does not hold.
    """
    unknown = [axis for axis in axes if axis is not None and axis not in RULES]
    if unknown:
        raise ValueError(
            f"Unknown logical axes {unknown}; known: {sorted(RULES)} (parallel/rules.py)."
        )
    return PartitionSpec(*(None if axis is None else RULES[axis] for axis in axes))


def named_sharding(mesh: Mesh, axes: Sequence[str | None]) -> NamedSharding:
    """The sharding of an array with these logical axes on this mesh."""
    return NamedSharding(mesh, partition_spec(axes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of batch arrays [rows, ...]: rows over data and fsdp, the rest replicated."""
    return named_sharding(mesh, ("batch",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def rows_divisor(mesh: Mesh) -> int:
    """Number of shards of the row axis: row counts must be multiples of it."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins the sharding of an activation inside jit; does nothing where no mesh is set."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes))


def put_rows(batch: Any, mesh: Mesh) -> Any:
    """Places a pytree of host arrays [rows, ...] on the mesh, split by rows."""
    return jax.device_put(batch, batch_sharding(mesh))
