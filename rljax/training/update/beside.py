"""Frozen models that a loss runs beside the policy: they enter the update with its parameters.

The loss is given one tree of parameters; under `BESIDE` that tree holds all of the frozen models,
by role. So no loss closes over arrays, which would become constants of its program.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array

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
