"""One file per family of methods. A family knows how to collect a step's batches and its loss.

To the train loop a family is the class below; that is all it may know of it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
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

    context: Context
    stage: Stage

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

    def observe(self, state: TrainState, batch: Rows, experience: Experience) -> None:
        """Called before each update of a recorded step, with the state that it starts from."""

    def record(self, step: int, experience: Experience) -> dict | None:
        """The step's rollouts for the report, after its updates; None where there are none."""
        return None
