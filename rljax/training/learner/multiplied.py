"""An update whose advantages are mixed by multipliers of rewards, which move with it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.metrics import SumCount
from rljax.objectives.multipliers import mixing_weights, move_multipliers, values_reached
from rljax.objectives.parts import apply
from rljax.training.learner.arrays import flat
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics

Update = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]

# The statistics of a stage's state that belong to them.
OF_STATE = ("multipliers", "multiplier_momentum")


def with_multipliers(update: Update, stage: Stage) -> Update:
    """The same update, of mixed advantages where the objective mixes them.

    The advantages of the update's own samples are normalised component by component and mixed by
    the multipliers as they are; then the multipliers move by what these samples were worth
    (arXiv:2310.04373). Neither sees the other's gradient. While a critic learns alone, they wait.
    """
    if not mixes(stage):
        return update
    objective, updates = stage.objective, stage.batch.updates_per_step
    alone = stage.critic["warmup_updates"]

    def mixed(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
        held = {name: state.carried[name] for name in OF_STATE}
        arrays = flat(batch) | held
        advantages = apply(objective.part("advantage"), arrays)
        own = batch | {"advantages": advantages.reshape(batch["mask"].shape)}
        after, metrics = update(state, frozen, own)
        moves = state.updates >= alone
        if objective.values["multiplier_step"] == "step":
            moves &= (state.updates + 1) % updates == 0
        new = dict(zip(OF_STATE, apply(objective.bind(move_multipliers), arrays), strict=True))
        moved = jax.tree.map(lambda old, new: jnp.where(moves, new, old), held, new)
        told = _told(mixing_weights(held["multipliers"], **_kind(stage)), arrays)
        return after.replace(carried=after.carried | moved), metrics | told

    return mixed


def mixes(stage: Stage) -> bool:
    """Whether a stage's advantages are mixed by multipliers."""
    return stage.objective.choices["advantage"] == "mixed_components"


def _kind(stage: Stage) -> dict[str, str]:
    return {"threshold_kind": stage.objective.values["threshold_kind"]}


def _told(weights: Array, arrays: dict[str, Array]) -> Metrics:
    """Weight and worth of each reward, counted from 1 in the order of config.scoring.rewards."""
    reached = values_reached(arrays["rewards_to_go"], arrays["mask"])
    seen = arrays["mask"].any().astype(jnp.float32)
    found = {"reward_weight": weights, "reward_reached": reached}
    return {
        f"{name}/{place + 1}": SumCount(numbers[place] * seen, seen)
        for name, numbers in found.items()
        for place in range(len(weights))
    }
