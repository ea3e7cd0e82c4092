"""Frozen models that a loss runs beside the policy: they enter the update with its parameters.

The loss is given one tree of parameters; under `BESIDE` that tree holds all of the frozen models,
by role. So no loss closes over arrays, which would become constants of its program. A model that
follows the policy (update/moving_copy.py) enters in the same way, from the state that carries it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array

from rljax.models.lora import combine
from rljax.models.network import Params

BESIDE = "beside"


def split_beside(params: Params) -> tuple[Params, Params]:
    """The policy's own parameters, and those of the models beside it by role."""
    return {name: x for name, x in params.items() if name != BESIDE}, params.get(BESIDE, {})


def shardings_of(models: Params) -> Params:
    """The sharding of every leaf, of arrays or of their descriptions."""
    return jax.tree.map(lambda leaf: leaf.sharding, models)


class UpdateBeside:
    """An update (state, frozen, batch) that brings the frozen models itself."""

    def __init__(self, program: Callable, models: Mapping[str, Params]) -> None:
        """Binds the models.

        Args:
            program: jitted, (state, frozen, batch), whose `frozen` holds the models too.
            models: by role.
        """
        self.program, self.beside = program, {BESIDE: dict(models)}

    def __call__(self, state: Any, frozen: Params, batch: dict[str, Array]) -> Any:
        """The update."""
        return self.program(state, {**frozen, **self.beside}, batch)

    def lower(self, state: Any, frozen: Params, batch: Any) -> Any:
        """Its `jax.stages.Lowered`."""
        return self.program.lower(state, {**frozen, **self.beside}, batch)


class UpdateBesideCopy:
    """An update (state, frozen, batch) whose loss runs a copy that the state itself carries."""

    def __init__(self, program: Callable, role: str) -> None:
        """Binds the copy's name.

        Args:
            program: jitted, (state without the copy, frozen, batch); `frozen` holds the copy too.
            role: of the copy, in the state and in the loss.
        """
        self.program, self.role = program, role

    def __call__(self, state: Any, frozen: Params, batch: dict[str, Array]) -> Any:
        """The update; the copy is as it was."""
        rest, given = self._apart(state, frozen)
        updated, metrics = self.program(rest, given, batch)
        carried = updated.carried | {self.role: state.carried[self.role]}
        return updated.replace(carried=carried), metrics

    def lower(self, state: Any, frozen: Params, batch: Any) -> Any:
        """Its `jax.stages.Lowered`."""
        return self.program.lower(*self._apart(state, frozen), batch)

    def _apart(self, state: Any, frozen: Params) -> tuple[Any, Params]:
        """The state is donated, and its copy is not: it is read again."""
        rest = {name: kept for name, kept in state.carried.items() if name != self.role}
        copy = combine(state.carried[self.role], frozen)
        return state.replace(carried=rest), {**frozen, BESIDE: {self.role: copy}}
