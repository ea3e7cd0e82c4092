"""One file for each family of methods. A family turns experience into batches, and has a loss.

To the train loop a family is the class below. Its `source` makes or reads the experience of a step
(training/collect/); the family does not know whether that happens in turn with its updates.

| file | what it holds |
| --- | --- |
| `supervised.py` | demonstrations |
| `bound_evaluation.py` | bound of held-out demonstrations under a diffusion model |
| `distillation.py` | completions, and a teacher |
| `policy_gradient.py` | samples with scores |
| `preference.py` | pairs of a chosen and a rejected completion |
| `row_kind.py` | what a kind of rows is, for the three files that list them |
| `preference_rows.py` | what the rows of a preference stage are: pairs, groups, rated completions |
| `unpaired.py` | completions that are desired or not |
| `labelled_rows.py` | what the rows of an unpaired stage are: labelled completions, or steps |
| `evidence.py` | reference answers |
| `posterior.py` | right samples, weighed per prompt; chains of them |
| `evolution.py` | scores of a population, without a gradient |
| `reward.py` | reward models, from pairs, labels or ratings |
| `goal_term.py` | the goal-conditioned term of reward models |
| `invariance_term.py` | the length-invariance term of reward models |
| `feedback.py` | the rows that reward models learn from |
| `table.py` | which class a stage's family is |
| `first_step.py` | the start of LoRA-SB, from a family's first batch |
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.training.collect.experience import Experience, ExperienceSource, Policy
from rljax.training.families.first_step import needs_first_step, take_first_step
from rljax.training.run.context import Context
from rljax.training.update.beside import BESIDE
from rljax.training.update.rows import Rows
from rljax.training.update.state import Carried, TrainState
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

    context: Context  # of the stage
    stage: Stage
    source: ExperienceSource
    # Roles whose frozen models the loss itself runs (training/update/beside.py).
    in_loss: tuple[str, ...] = ()
    # Of `evaluate`: a share by which the best checkpoint of the stage is known.
    best_metric = "accuracy_greedy"
    # Metrics that count updates which were not made, the policy's first.
    skip_metrics: tuple[str, ...] = ("updates_skipped",)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Raises ValueError for data that the stage cannot use, before anything compiles."""

    @staticmethod
    def carried(context: Context, stage: Stage) -> Carried:
        """What the stage's state holds besides the policy."""
        return Carried()

    def policy(self, state: TrainState, step: int) -> Policy:
        """What the experience of a step (from 1) is sampled with."""
        slopes = state.carried.get("temperature_slopes")
        return Policy(self.context.full(state.params), self.version(step), slopes)

    def version(self, step: int) -> int:
        """Updates of the stage before a step."""
        return (step - 1) * self.stage.batch.updates_per_step

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The batches of a step (from 1), and the state with its new running statistics."""
        raise NotImplementedError

    def beside(self) -> dict[str, Params]:
        """The frozen models that the loss runs, by role; `loss_fn` finds them with its policy."""
        models = self.context.models
        return {role: models[role].arrays(self.context.mesh) for role in self.in_loss}

    def beside_in(self, state: TrainState) -> dict[str, Params]:
        """The models that the loss runs when the stage is in this state, by role."""
        return self.beside()

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The loss of a part of a prepared batch; see `LossFn`."""
        raise NotImplementedError

    def first_loss(self, batch: Rows) -> float | None:
        """The loss of a batch where the policy is what its reference is; None: not known."""
        return None

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
            carried=self.carried(self.context, self.stage),
            beside=self.beside(),
        )

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
        experience, _ = self.source.collect(self.policy(state, 1), self.source.first_state(), 1)
        _, first = self.batches(state, experience, 1)
        beside = self.beside_in(state)
        frozen = {**self.context.frozen, BESIDE: beside}
        return take_first_step(
            dataclasses.replace(self.context, frozen=frozen) if beside else self.context,
            state,
            first.batches[0],
            loss_fn=self.loss_fn,
            prepare=self.prepare,
            learning_rate=learning_rate,
            micro_batches=self.stage.batch.micro_batches,
        )

    def evaluate(
        self, state: TrainState, heldout: Callable[[Params], dict[str, float]] | None
    ) -> dict[str, float]:
        """How good the stage's model is; one of the metrics is `best_metric`.

        Args:
            state: of the stage.
            heldout: judges all parameters of a policy by its answers to the run's held-out problems
                (training/evaluation.py); None where the stage's network is no language model.
        """
        return heldout(self.context.full(state.params))

    def before_update(self, state: TrainState, batch: Rows, batches: StepBatches) -> None:
        """Called before each update of a recorded step, with the state that it starts from."""

    def record(self, step: int, batches: StepBatches) -> dict | None:
        """The step's rollouts for the report, after its updates; None where there are none."""
        return None
