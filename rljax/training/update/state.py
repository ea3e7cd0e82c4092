"""TrainState: everything that an update changes, as one pytree."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array
from jax.sharding import Mesh, Sharding

from rljax.models.lora import split_frozen, split_held
from rljax.models.network import Network, Params
from rljax.parallel.rules import replicated


@struct.dataclass
class TrainState:
    """The parameters that training changes and all that belongs to them; saved and restored whole.

    With adapters `params` holds these and the heads only: what is frozen lies outside, and is
    joined by `Context.full` (models/lora.py tells the leaves apart).
    """

    params: Params
    optimizer_state: Any
    updates: Array  # [] i32, updates tried in this stage, skipped ones included
    skipped: Array  # [] i32, updates skipped because of a non-finite loss or gradient
    skipped_in_a_row: Array  # [] i32, of these the latest consecutive ones
    # What the stage's family keeps besides: running statistics, the TrainState of a critic.
    carried: dict[str, Any] = struct.field(default_factory=dict)


class Carried(NamedTuple):
    """How a family makes the `carried` of its first state."""

    create: Callable[[Params], dict[str, Any]] = lambda params: {}  # from the policy's parameters
    shardings: dict[str, Any] = {}  # noqa: RUF012 - of every leaf; never changed


def first_moments(optimizer: optax.GradientTransformation, params: Params) -> Any:
    """The optimizer's first state for the leaves that it changes.

    In float32, as the gradients are, whatever the parameters are.
    """
    optimised, _ = split_held(params)
    return optimizer.init(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), optimised))


def state_shardings(
    network: Network,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    carried: Carried = Carried(),  # noqa: B008 - immutable
) -> TrainState:
    """The TrainState with a sharding at each leaf.

    Optimizer moments are placed as their parameters; counters are replicated.
    """
    params, _ = split_frozen(network.shardings(mesh))
    shapes, _ = split_frozen(network.shapes)
    whole = replicated(mesh)
    abstract = jax.eval_shape(lambda params: first_moments(optimizer, params), shapes)
    moments = optax.tree.map_params(
        optimizer,
        lambda _, sharding: sharding,
        abstract,
        split_held(params)[0],
        transform_non_params=lambda _: whole,
    )
    return TrainState(params, moments, whole, whole, whole, dict(carried.shardings))


def create_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    shardings: TrainState,
    carried: Carried = Carried(),  # noqa: B008 - immutable
) -> TrainState:
    """A stage's first state: fresh optimizer, zero counters. `params` are donated."""
    create = functools.partial(_create, optimizer=optimizer, carried=carried)
    return jax.jit(create, donate_argnums=0, out_shardings=shardings)(params)


def _create(
    params: Params, optimizer: optax.GradientTransformation, carried: Carried
) -> TrainState:
    # Three separate zeros: donated buffers must not be shared between fields.
    return TrainState(
        params=params,
        optimizer_state=first_moments(optimizer, params),
        updates=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        carried=carried.create(params),
    )


def abstract_state(
    network: Network,
    optimizer: optax.GradientTransformation,
    shardings: TrainState,
    carried: Carried = Carried(),  # noqa: B008 - immutable
) -> TrainState:
    """ShapeDtypeStructs with shardings: what a checkpoint is restored into."""
    params, _ = split_frozen(network.shapes)
    create = functools.partial(_create, optimizer=optimizer, carried=carried)
    state = jax.eval_shape(create, params)
    return jax.tree.map(placed, state, shardings)


def placed(leaf: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
    """The shape and type of an array, or of a description of one, in a sharding."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
