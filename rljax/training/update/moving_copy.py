"""A copy of the policy that follows it, and is part of the state of a stage.

    every k updates:   copy <- share * policy + (1 - share) * copy

It is the reference of TR-DPO (arXiv:2404.09656), or a teacher whose parameters are an exponential
moving average of the policy's (SDPO, arXiv:2601.20802). A share of 1 is a hard update: the copy
becomes what the policy is. It is saved with the state, so that a run that is killed goes on with
the same copy.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from rljax.config.stage import Stage
from rljax.models.lora import split_frozen
from rljax.models.network import Network, Params
from rljax.training.update.state import Carried, TrainState

# Where a TrainState holds the copy.
REFERENCE, TEACHER = "reference", "teacher"


Move = Callable[[Params, Params, float], Params]


def carried_copy(role: str, network: Network, mesh: Mesh) -> Carried:
    """The state's copy: what the stage starts from, those of its parameters that train.

    Args:
        role: `REFERENCE` or `TEACHER`.
        network: of the policy.
        mesh: that it lies on.
    """
    return Carried(
        lambda params: {role: jax.tree.map(jnp.copy, params)}, {role: _shardings(network, mesh)}
    )


def jit_move(network: Network, mesh: Mesh) -> Move:
    """Jits (copy, policy, share) -> the copy moved; the old one's memory is used again.

    The share of the policy lies in (0, 1]; the mixture is computed in float32.
    """

    def leaf(share: Array, before: Array, now: Array) -> Array:
        mean = share * now.astype(jnp.float32) + (1 - share) * before.astype(jnp.float32)
        return mean.astype(before.dtype)

    def move(copy: Params, policy: Params, share: Array) -> Params:
        return jax.tree.map(functools.partial(leaf, share), copy, policy)

    return jax.jit(move, donate_argnums=0, out_shardings=_shardings(network, mesh))


def moved(state: TrainState, role: str, move: Move, share: float) -> TrainState:
    """The state with its copy moved.

    Args:
        state: with the copy.
        role: which copy.
        move: of `jit_move`.
        share: of the policy.
    """
    copy = move(state.carried[role], state.params, share)
    return state.replace(carried=state.carried | {role: copy})


def check_moves(network: Network, stage: Stage, role: str) -> None:
    """Raises ValueError for a soft update of adapters: factors do not mix as their products do."""
    field = f"{role}_mixup"
    share = stage.objective.values.get(field, 1.0)
    if share < 1 and network.config.lora is not None:
        raise ValueError(
            f"{field}={share} mixes the factors of adapters, which is no mixture of what "
            "they add to the model; with config.model.lora it must be 1 "
            f"(config.{stage.name}.objective.{field})."
        )


def moves_before(stage: Stage, step: int) -> bool:
    """Whether the reference moves before a step (from 1) of a stage of one update a step."""
    every = stage.objective.values["reference_update_steps"]
    return step > 1 and (step - 1) % every == 0


def _shardings(network: Network, mesh: Mesh) -> Params:
    return split_frozen(network.shardings(mesh))[0]
