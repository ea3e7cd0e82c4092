"""Prompt sources: which problems a step samples.

A source keeps its state in NumPy arrays that are saved with every checkpoint, so that a run that
was interrupted goes on with the same problems. Curricula are further sources: they `observe` what
became of the prompts, and `take` accordingly.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rljax.data.sources import stream
from rljax.rewards.pool import Scores
from rljax.training.collect.rollouts import Samples
from rljax.training.run.context import Record

State = dict[str, Any]  # NumPy arrays by name, nested


class Prompts(NamedTuple):
    """B problems to sample."""

    records: list[Record]  # each with its stable "id", the place of the problem in its file
    visits: np.ndarray  # [B] i64, times that the source handed out the problem before


# Numbers of problems [K] -> what the policy's critic expects of each, [K] f32.
Predict = Callable[[np.ndarray], np.ndarray]


class PromptSource(Protocol):
    """Decides which problems come next.

    Attributes:
        observes: whether what became of prompts has a say; False: `observe` returns the state as it
            is, and prompts may be taken before the ones before them are scored.
    """

    observes: bool

    def first_state(self) -> State:
        """The state before the first step of a stage."""

    def take(
        self, state: State, step: int, count: int, predict: Predict | None = None
    ) -> tuple[Prompts, State]:
        """The next problems.

        Args:
            state: of the source.
            step: of the stage, from 1.
            count: B.
            predict: of the policy that will sample them; None where it has no critic of prompts.

        Returns:
            B problems, and the state after they were taken.
        """

    def observe(self, state: State, samples: Samples, scores: Scores | None) -> State:
        """The state once it is known what became of prompts.

        Args:
            state: of the source.
            samples: of prompts that it handed out, all of them: a group filter comes later.
            scores: of the samples; None where nothing is verified.
        """

    def metrics(self, state: State) -> dict[str, float]:
        """What it says of itself after a step."""


class ShuffledPrompts:
    """All problems in a random order, then again in another one, and so on.

    The order follows from the seed alone: the state is the number of problems taken.
    """

    observes = False

    def __init__(self, problems: Sequence[Record], *, seed: int) -> None:
        self.records = stream(problems, seed=seed, shuffle=True)
        self.problems = len(problems)

    def first_state(self) -> State:
        """Nothing taken yet."""
        return {"taken": np.int64(0)}

    def take(
        self, state: State, step: int, count: int, predict: Predict | None = None
    ) -> tuple[Prompts, State]:
        """See `PromptSource.take`."""
        places = int(state["taken"]) + np.arange(count)
        prompts = Prompts([self.records[int(place)] for place in places], places // self.problems)
        return prompts, {"taken": np.int64(state["taken"] + count)}

    def observe(self, state: State, samples: Samples, scores: Scores | None) -> State:
        """The order does not depend on what became of a prompt."""
        return state

    def metrics(self, state: State) -> dict[str, float]:
        """Nothing to say."""
        return {}
