"""Which problems a step samples, on the device; as the host's prompt sources (collect/)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.curriculum import curriculum_of
from rljax.config.stage import Stage
from rljax.objectives.curricula import Curriculum, Outcomes, Problems
from rljax.objectives.curricula.curriculum import next_turn
from rljax.sampling.keys import Purpose, purpose_key
from rljax.tasks.symbols.alphabet import PAD_ID
from rljax.training.collect.curriculum import CALLS, row_means
from rljax.training.device_loop.data import TaskData
from rljax.training.learner.compare import score_advantages
from rljax.training.learner.group import Group, step_arrays
from rljax.training.learner.prompt_values import make_prompt_values, prompt_rows

Following = dict[str, Any]  # the state of what chooses prompts

TAKEN = "taken"  # problems of the run's order so far


class InOrder(NamedTuple):
    """Problems in the order of the run's seed."""

    order: Array  # [K] i32
    count: int  # B

    def first(self) -> Following:
        """Nothing taken."""
        return {TAKEN: jnp.int32(0)}

    def take(self, following: Following, step: Array) -> tuple[Array, Following]:
        """The next B, [B] i32."""
        index = jax.lax.dynamic_slice_in_dim(self.order, following[TAKEN], self.count)
        return index, {TAKEN: following[TAKEN] + self.count}

    def observe(self, following: Following, index: Array, group: Group) -> Following:
        """The order does not depend on what became of a problem."""
        return following

    def metrics(self, following: Following) -> dict[str, Array]:
        """Nothing to say."""
        return {}


class ByCurriculum(NamedTuple):
    """Problems as a curriculum chooses them: the calls of the host's `CurriculumPrompts`."""

    curriculum: Curriculum
    problems: Problems
    stage: Stage
    stream: Array
    predict: Any  # [K] i32 -> [K] f32, or None

    def first(self) -> Following:
        """The curriculum's first state, and no call yet."""
        return {**self.curriculum.first(self.problems, self.stream), CALLS: jnp.int32(0)}

    def take(self, following: Following, step: Array) -> tuple[Array, Following]:
        """The next B, [B] i32."""
        calls, count = following[CALLS], self.stage.batch.prompts_per_step
        turn = next_turn(self.stream, calls, step, count, self.predict)
        index, own = self.curriculum.take(self._own(following), self.problems, turn)
        return index, {**own, CALLS: calls + 1}

    def observe(self, following: Following, index: Array, group: Group) -> Following:
        """What became of them."""
        advantages = None
        if "advantages" in self.curriculum.reads:
            arrays = step_arrays(group)
            rows = row_means(score_advantages(self.stage.objective, arrays), arrays["mask"])
            advantages = rows.reshape(group.scores.shape)
        present = group.mask.any(axis=2)
        seen = Outcomes(index, group.scores, group.correct, present, advantages)
        own = self.curriculum.observe(self._own(following), self.problems, seen)
        return {**own, CALLS: following[CALLS]}

    def metrics(self, following: Following) -> dict[str, Array]:
        """The curriculum's numbers."""
        own = self.curriculum.metrics(self._own(following), self.problems)
        return {f"curriculum/{name}": value for name, value in own.items()}

    @staticmethod
    def _own(following: Following) -> Following:
        return {name: value for name, value in following.items() if name != CALLS}


Prompts = InOrder | ByCurriculum


def make_prompts(
    stage: Stage,
    train: TaskData,
    problems: Problems,
    seed: Array,
    order: Array,
    learner: Any = None,
    state: Any = None,
) -> Prompts:
    """What chooses the problems of a run.

    Args:
        stage: of the run, with its own numbers.
        train: the problems.
        problems: what is known of them.
        seed: [] u32, of the run.
        order: [K] i32, its stream of problems.
        learner: of the run; with `state`, where a critic values prompts.
        state: its TrainState.
    """
    curriculum = curriculum_of(stage)
    if curriculum is None:
        return InOrder(order, stage.batch.prompts_per_step)
    stream = jax.random.fold_in(purpose_key(seed, Purpose.CURRICULUM), 0)
    predict = None
    if "prompt_values" in curriculum.reads and state is not None:
        predict = functools.partial(_expected, stage, train, learner, state)
    return ByCurriculum(curriculum, problems, stage, stream, predict)


def _expected(stage: Stage, train: TaskData, learner: Any, state: Any, index: Array) -> Array:
    """What the critic expects of problems, [K] f32."""
    data, batch = train.take(index), stage.batch
    size = max(n for n in range(1, batch.sequences_per_micro_batch + 1) if len(index) % n == 0)
    values = make_prompt_values(learner.critic, size)
    rows = prompt_rows(data.prompts, data.prompt_mask, PAD_ID)
    return values(state.carried["critic"].params, state.params, rows)
