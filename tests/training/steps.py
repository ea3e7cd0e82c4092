"""One step of a family, as the train loop takes it."""

from typing import Any

from rljax.training.families import Family, StepBatches
from rljax.training.update.state import TrainState


def source_state(family: Family, step: int) -> dict[str, Any]:
    """The state of a source of shuffled records before a step, no round having been repeated."""
    state = family.source.first_state()
    if "taken" in state:
        batch = family.stage.batch
        per_step = batch.prompts_per_step or batch.sequences_per_update // 2
        state["taken"] += (step - 1) * per_step
    return state


def take_step(
    family: Family, state: TrainState, step: int, before: dict[str, Any] | None = None
) -> tuple[TrainState, StepBatches]:
    """Collects a step's experience and makes batches of it.

    Args:
        family: of the stage.
        state: before the step.
        step: from 1.
        before: of the source; by default as if all steps before it were alike.
    """
    return follow_step(family, state, step, before or source_state(family, step))[:2]


def follow_step(
    family: Family, state: TrainState, step: int, before: dict[str, Any]
) -> tuple[TrainState, StepBatches, dict[str, Any]]:
    """`take_step` with the state of the source after it."""
    experience, after = family.source.collect(family.policy(state, step), before, step)
    state, batches = family.batches(state, experience, step)
    return state, batches, after
