"""One file for each family of methods. A family turns experience into batches, and has a loss.

To the train loop a family is the class below. Its `source` makes or reads the experience of a step
(training/collect/); the family does not know whether that happens in turn with its updates.

| file | what it holds |
| --- | --- |
| `supervised.py` | demonstrations |
| `policy_gradient.py` | samples with scores |
| `preference.py` | pairs of a chosen and a rejected completion |
| `evidence.py` | reference answers |
| `evolution.py` | scores of a population, without a gradient |
| `table.py` | which class a stage's family is |
| `first_step.py` | the start of LoRA-SB, from a family's first batch |
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.training.collect.experience import Experience, ExperienceSource, Policy
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows
from rljax.training.update.state import Extra, TrainState
from rljax.training.update.train_step import Batch, Metrics, jit_train_step


class StepBatches(NamedTuple):
    """What the updates of one step learn from, on the host."""

    batches: Sequence[Rows]  # one per update
    metrics: dict[str, float]
    seconds: dict[str, float]  # by phase: sampling, scoring
    tokens: int  # trained on, summed over the batches
    detail: Any = None  # the family's own, for `record`


class Family:
    """A stage's way to learn. The base class has what most of them share."""

    context: Context
    stage: Stage
    source: ExperienceSource

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Raises ValueError for data that the stage cannot use, before anything compiles."""

    @staticmethod
    def extra(context: Context, stage: Stage) -> Extra:
        """What the stage's state holds besides the policy."""
        return Extra()

    def policy(self, state: TrainState, step: int) -> Policy:
        """What the experience of a step (from 1) is sampled with."""
        version = (step - 1) * self.stage.batch.updates_per_step
        slopes = state.extra.get("temperature_slopes")
        return Policy(self.context.full(state.params), version, slopes)

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The batches of a step (from 1), and the state with its new running statistics."""
        raise NotImplementedError

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The loss of a part of a prepared batch; see `LossFn`."""
        raise NotImplementedError

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """What the whole batch of an update adds to its rows; see `PrepareFn`."""
        return batch

    def make_update(
        self, optimizer: optax.GradientTransformation, rounding_key: Array | None
    ) -> Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]:
        """The jitted update (state, frozen, batch) -> (state, metrics); the state is donated."""
        return jit_train_step(
            self.context.network,
            self.loss_fn,
            optimizer,
            self.context.mesh,
            micro_batches=self.stage.batch.micro_batches,
            prepare=self.prepare,
            rounding_key=rounding_key,
            extra=self.extra(self.context, self.stage),
        )

    def before_update(self, state: TrainState, batch: Rows, batches: StepBatches) -> None:
        """Called before each update of a recorded step, with the state that it starts from."""

    def record(self, step: int, batches: StepBatches) -> dict | None:
        """The step's rollouts for the report, after its updates; None where there are none."""
        return None
