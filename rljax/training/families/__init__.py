"""One file per family of methods. A family knows how to collect a step's batches and its loss.

To the train loop a family is the class below; that is all it may know of it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.training.families.first_step import needs_first_step, take_first_step
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows
from rljax.training.update.state import Extra, TrainState
from rljax.training.update.train_step import Batch, Metrics, jit_train_step


class Experience(NamedTuple):
    """What one step learns from, on the host."""

    batches: Sequence[Rows]  # one per update
    metrics: dict[str, float]
    seconds: dict[str, float]  # by phase: sampling, scoring
    tokens: int  # trained on, summed over the batches
    detail: Any = None  # the family's own, for `record`


class Family:
    """A stage's way to learn. The base class has what most of them share."""

    context: Context  # of the stage
    stage: Stage
    # Of `evaluate`: a share by which the best checkpoint of the stage is known.
    best_metric = "accuracy_greedy"
    # Metrics that count updates which were not made, the policy's first.
    skip_metrics: tuple[str, ...] = ("updates_skipped",)
    # First updates of the stage that leave the policy, and its learning rate, where they are.
    idle_updates = 0

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Raises ValueError for data that the stage cannot use, before anything compiles."""

    @staticmethod
    def extra(context: Context, stage: Stage) -> Extra:
        """What the stage's state holds besides the policy."""
        return Extra()

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

    def collect(self, state: TrainState, step: int) -> tuple[TrainState, Experience]:
        """The batches of a step (from 1), and the state with any running statistic moved on."""
        raise NotImplementedError

    def first_state(self, state: TrainState, learning_rate: Array) -> TrainState:
        """What the first step starts from, given the fresh state of the stage.

        Adapters of LoRA-SB take their bases from the first batch; a run that is killed before its
        first checkpoint takes them again.

        Args:
            state: of a stage without a checkpoint.
            learning_rate: [] f32, of the first update.
        """
        if not needs_first_step(self.context.network, state.params):
            return state
        _, experience = self.collect(state, 1)
        return take_first_step(
            self.context,
            state,
            experience.batches[0],
            loss_fn=self.loss_fn,
            prepare=self.prepare,
            learning_rate=learning_rate,
            micro_batches=self.stage.batch.micro_batches,
        )

    def evaluate(
        self, state: TrainState, heldout: Callable[[Params], dict[str, float]]
    ) -> dict[str, float]:
        """How good the stage's model is; one of the metrics is `best_metric`.

        Args:
            state: of the stage.
            heldout: judges all parameters of a policy by its answers to the run's held-out problems
                (training/evaluation.py).
        """
        return heldout(self.context.full(state.params))

    def observe(self, state: TrainState, batch: Rows, experience: Experience) -> None:
        """Called before each update of a recorded step, with the state that it starts from."""

    def record(self, step: int, experience: Experience) -> dict | None:
        """The step's rollouts for the report, after its updates; None where there are none."""
        return None
