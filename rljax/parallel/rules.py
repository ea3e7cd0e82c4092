"""One table from logical axis names to mesh axes; every sharding in rljax follows from it.

A parameter of the model carries logical names, e.g. ("layers", "embed", "heads", "head_dim").
With the table below it is split over `fsdp` along its embed axis and over `tensor` along its heads,
and is replicated over the other axes of the mesh.

Context parallelism splits the slots of rows over `context` in everything that works token by token.
Attention needs whole rows: there, the heads are split over `tensor` and `context` instead, and the
change from slots to heads and back is an all-to-all (arXiv:2309.14509). Each device then holds
S / context slots of all heads, or S slots of heads / context heads: the same memory, and any kernel
serves. Its limit is that heads must divide by tensor * context (`check_context`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

RULES: dict[str, tuple[str, ...] | str | None] = {
    "batch": ("data", "fsdp", "expert"),  # rows of tokens, and of the KV cache
    "outer_batch": ("data", "expert"),  # rows of tokens, where fsdp splits their width instead
    "sequence": "context",  # slots of rows, outside attention
    "attention_heads": ("tensor", "context"),  # heads of activations, inside attention
    "vocab": "tensor",
    "embed": "fsdp",  # the width axis of parameters
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "rank": None,  # of an adapter
    "rank_out": None,
    "experts": "expert",
    "head": None,  # outputs of a value or reward head
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


def fitting(
    spec: PartitionSpec, shape: Sequence[int], mesh_shape: Mapping[str, int]
) -> PartitionSpec:
    """`spec` without the axes whose size does not divide by their number of shards."""

    def divides(size: int, names: tuple[str, ...] | str | None) -> bool:
        names = (names,) if isinstance(names, str) else names or ()
        return size % math.prod(mesh_shape[name] for name in names) == 0

    pairs = zip(shape, spec, strict=True)
    return PartitionSpec(*(names if divides(size, names) else None for size, names in pairs))


def fitting_sharding(mesh: Mesh, spec: PartitionSpec, leaf: Any) -> NamedSharding:
    """The sharding by `spec` on this mesh, as far as it fits an array, or its shape."""
    return NamedSharding(mesh, fitting(spec, leaf.shape, mesh.shape))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of batch arrays [rows, ...]: rows over the axes of "batch", the rest replicated."""
    return named_sharding(mesh, ("batch",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def rows_divisor(mesh: Mesh) -> int:
    """Number of shards of the row axis: row counts must be multiples of it."""
    return math.prod(mesh.shape[axis] for axis in RULES["batch"])


def row_shards() -> int:
    """The same for the mesh that is set; 1 without one."""
    mesh_shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(mesh_shape.get(axis, 1) for axis in RULES["batch"])


def check_row_length(mesh_shape: Mapping[str, int], slots: int, field: str) -> None:
    """Raises ValueError unless rows of so many slots divide by the mesh axis "context".

    Args:
        mesh_shape: axis -> size.
        slots: S, of rows that are trained on or scored.
        field: what sets their length, for the message.
    """
    context = mesh_shape.get("context", 1)
    if slots % context:
        raise ValueError(
            f"Rows of {slots} slots do not divide by the mesh axis context={context} "
            f"({field}, config.mesh.context)."
        )


def check_context(mesh_shape: Mapping[str, int], heads: int) -> None:
    """Raises ValueError unless the query heads divide by tensor * context, where context > 1."""
    tensor, context = mesh_shape.get("tensor", 1), mesh_shape.get("context", 1)
    if context > 1 and heads % (tensor * context):
        raise ValueError(
            f"heads={heads} does not divide by tensor={tensor} x context={context}: attention "
            "splits its heads over both (config.model.heads, config.mesh.tensor, "
            "config.mesh.context)."
        )


def slots_are_split() -> bool:
    """Whether the mesh that is set splits the slots of rows (mesh axis "context")."""
    return jax.sharding.get_abstract_mesh().shape.get("context", 1) > 1


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins the sharding of an activation inside jit; does nothing where no mesh is set."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes))


def put_rows(batch: Any, mesh: Mesh) -> Any:
    """Places a pytree of host arrays [rows, ...] on the mesh, split by rows.

    Every process of the mesh gives the same arrays; each one's devices get their rows of them.
    """
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda array: from_host(array, sharding), batch)


def from_host(array: np.ndarray, sharding: Sharding) -> jax.Array:
    """A NumPy array, which every process has whole, laid out over devices.

    Nothing passes between processes: `jax.device_put` would compare the arrays of all of them.
    """
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
