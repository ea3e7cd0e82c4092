"""Two critics, of which a step has one: of the policy, or of what a guide makes of its states.

A learner has one critic, the one that a state carries as `CRITIC`. In the steps of the guide's
(`guide_values`, learner/compare.py) the two change places, before the samples are valued and around
each update; no program knows of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax import Array

from rljax.config.guide import guide_plan
from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.training.update.rows import Rows
from rljax.training.update.state import TrainState

# What a TrainState carries of them.
CRITIC, GUIDE_CRITIC = "critic", "guide_critic"

# Of the rows of a batch, where the guide's critic learns from them.
GUIDE_VALUES = "guide_values"


def critics_of(stage: Stage) -> tuple[str, ...]:
    """The names of the critics that a state of the stage carries, that of its policy first."""
    if stage.objective.choices["value_target"] == "none":
        return ()
    plan = guide_plan(stage)
    return (CRITIC,) if plan is None or len(plan.kinds) == 1 else (CRITIC, GUIDE_CRITIC)


def with_critic(state: TrainState, known: Mapping[str, np.ndarray]) -> TrainState:
    """The state of a step whose samples are known: `CRITIC` is the one that it trains."""
    return exchanged(state) if _of_guide(state, known) else state


def marked(
    batches: Sequence[Rows], state: TrainState, known: Mapping[str, np.ndarray]
) -> list[Rows]:
    """The batches of a step, marked where the guide's critic learns from them."""
    if not _of_guide(state, known):
        return list(batches)
    return [batch | {GUIDE_VALUES: np.ones(batch["mask"].shape[:-1], bool)} for batch in batches]


def exchanged(state: TrainState) -> TrainState:
    """The state with its two critics in each other's place; nothing is copied."""
    critics = {CRITIC: state.carried[GUIDE_CRITIC], GUIDE_CRITIC: state.carried[CRITIC]}
    return state.replace(carried={**state.carried, **critics})


class UpdateOfCritics:
    """An update (state, frozen, batch) of the policy and of one of two critics."""

    def __init__(self, program: Callable) -> None:
        """Binds the jitted update, which trains `CRITIC`."""
        self.program = program

    def __call__(self, state: TrainState, frozen: Params, batch: dict[str, Array]) -> Any:
        """The update; both critics are in their places before and after."""
        rest = {name: array for name, array in batch.items() if name != GUIDE_VALUES}
        if GUIDE_VALUES not in batch:
            return self.program(state, frozen, rest)
        state, metrics = self.program(exchanged(state), frozen, rest)
        return exchanged(state), metrics

    def lower(self, state: Any, frozen: Params, batch: Mapping[str, Any]) -> Any:
        """Its `jax.stages.Lowered`."""
        rest = {name: array for name, array in batch.items() if name != GUIDE_VALUES}
        return self.program.lower(state, frozen, rest)


def _of_guide(state: TrainState, known: Mapping[str, np.ndarray]) -> bool:
    return GUIDE_CRITIC in state.carried and bool(known[GUIDE_VALUES].any())
