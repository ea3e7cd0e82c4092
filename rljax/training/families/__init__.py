"""One file per family of methods. A family knows how to collect a step's batches and its loss.

To the train loop a family is the class below; that is all it may know of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from rljax.config.validate import Stage
from rljax.training.context import Context
from rljax.training.rows import Rows
from rljax.training.state import TrainState
from rljax.training.train_step import LossFn


class Experience(NamedTuple):
    """What one step learns from, on the host."""

    batches: Sequence[Rows]  # one per update
    metrics: dict[str, float]
    seconds: dict[str, float]  # by phase: sampling, scoring
    tokens: int  # trained on, summed over the batches
    detail: Any = None  # the family's own, for `record`


class Family(Protocol):
    """A stage's way to learn."""

    loss_fn: LossFn

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Raises ValueError for data that the stage cannot use, before anything compiles."""
        ...

    def collect(self, state: TrainState, step: int) -> tuple[TrainState, Experience]:
        """The batches of a step (from 1), and the state with any running statistic moved on."""
        ...

    def observe(self, state: TrainState, batch: Rows, experience: Experience) -> None:
        """Called before each update of a recorded step, with the state that it starts from."""
        ...

    def record(self, step: int, experience: Experience) -> dict | None:
        """The step's rollouts for the report, after its updates; None where there are none."""
        ...
