"""Policy gradients: samples are scored, compared and learned from (rljax/registry/methods/)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rljax.config.curriculum import OF_PROMPTS
from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.parts import apply, fields_of
from rljax.objectives.surrogates import clipped_tokens
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows, replicated
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, call_offsets, purpose_key
from rljax.training.collect.by_variance import check_noise
from rljax.training.collect.curriculum import check_problems
from rljax.training.collect.demonstrations import encode_demonstrations
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.grouped import (
    arrays_of,
    composed_arrays,
    step_group,
    step_rows,
)
from rljax.training.collect.guided import CALLS, check_guidance
from rljax.training.collect.reference_answers import check_answers, form_of, named_reward
from rljax.training.collect.rewards import reference_rows
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.rounds import drawn_at_once, most_rounds
from rljax.training.collect.scaffolded import check_scaffold
from rljax.training.collect.sources import policy_gradient_source, stage_engine
from rljax.training.collect.teachers import TeacherScores, check_teacher_names
from rljax.training.families import Family, StepBatches
from rljax.training.learner.batches import step_order
from rljax.training.learner.compare import compare_samples
from rljax.training.learner.critics import UpdateOfCritics, critics_of, marked, with_critic
from rljax.training.learner.group import step_arrays
from rljax.training.learner.learner import Learner, running_of
from rljax.training.learner.needs import running_statistics, with_schedule
from rljax.training.learner.objective_weights import (
    WEIGHTS,
    make_weighing,
    reward_loss,
    weighs,
)
from rljax.training.learner.scoring import make_scores
from rljax.training.run.context import Context
from rljax.training.run.problems import checked_records
from rljax.training.update.likelihood import draws, likelihood_of, likelihood_rows
from rljax.training.update.logprobs import FILL_STEPS, LIKELIHOOD_EPOCH
from rljax.training.update.metrics import step_numbers
from rljax.training.update.rows import Rows, per_sample, take_rows
from rljax.training.update.state import Carried, TrainState
from rljax.training.update.train_step import Batch, Metrics, jit_update


class Detail(NamedTuple):
    """A step's samples, kept for the report."""

    samples: Samples
    scores: Scores
    inputs: Rows  # what the model runs on, in the layout of the stage
    rows: Rows  # of the completions, [N, T]
    log_ratio: np.ndarray  # [N, T], that each token's last update started from
    drawn: list[Rows]  # of each epoch, where masks are drawn: see `PolicyGradient._drawn`


class PolicyGradient(Family):
    """Methods that compare samples of the policy by what a verifier says of them."""

    skip_metrics = ("updates_skipped", "critic/updates_skipped")

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        self.objective = stage.objective
        self.first_step = first_step  # steps of earlier stages: noise is drawn by run, not by stage
        self.learner = compiled_learner(context, stage)
        teaches = stage.objective.choices["teacher"] != "none"
        self.teacher = TeacherScores(context, stage) if teaches else None
        self.weigh = compiled_weighing(context, self.learner) if weighs(stage) else None
        self.noise_key = purpose_key(context.config.seed, Purpose.SELECTION)
        self.source = policy_gradient_source(context, stage, self.learner, first_step, reference)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Builds the sampler; reads demonstrations and reference completions, if there are any."""
        stage_engine(context, stage, samples=drawn_at_once(stage))
        reference_rows(context, stage)
        check_problems(context, stage)
        if "answer_logprobs" in stage.objective.inputs:
            form, reward = form_of(stage), named_reward(stage)
            check_answers(context, form, context.train_problems, needed_by=reward)
        problems = context.train_problems
        rounds = stage.objective.values.get("allocation_rounds", 1)
        levels = stage.objective.values.get("hint_levels", 0)
        calls = max(most_rounds(stage) + 1, CALLS, rounds, 1 + levels)
        call_offsets(len(problems), stage.batch.prompts_per_step, calls)
        if stage.objective.choices["allocation"] == "by_variance":
            check_noise(len(problems), stage)
        check_teacher_names(context, stage)
        if stage.objective.guided:
            check_guidance(context, stage)
        elif stage.objective.choices["demonstrations"] == "scaffolded":
            check_scaffold(context, stage)
        elif stage.batch.rows_beside:
            encode_demonstrations(context, stage, checked_records(problems))

    @staticmethod
    def carried(context: Context, stage: Stage) -> Carried:
        """Running statistics, and the critic."""
        learner, whole = Learner.create(context.network, stage), replicated(context.mesh)
        shardings: dict[str, Any] = dict.fromkeys(running_statistics(stage), whole)
        for name in critics_of(stage):
            shardings[name] = learner.critic.shardings(context.mesh)
        return Carried(learner.first_carried, shardings)

    def policy(self, state: TrainState, step: int) -> Policy:
        """With its critic where problems are chosen by what that expects."""
        policy = super().policy(state, step)
        if self.objective.choices["value_target"] != OF_PROMPTS:
            return policy
        return policy._replace(critic=state.carried["critic"].params)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The loss of a part of a prepared batch."""
        return self.learner.loss.loss_fn(params, batch)

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """What the whole batch of an update adds to its rows."""
        return self.learner.loss.prepare(params, batch)

    def make_update(
        self, optimizer: optax.GradientTransformation, rounding_key: Array | None
    ) -> Callable:
        """The jitted update of policy and critic."""
        update = self.learner.make_update(rounding_key, optimizer)
        mesh, carried = self.context.mesh, self.carried(self.context, self.stage)
        program = jit_update(update, self.context.network, optimizer, mesh, carried)
        return UpdateOfCritics(program) if len(critics_of(self.stage)) > 1 else program

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """Annotates and compares the samples; see the picture of the data flow in the README."""
        samples, scores = experience.samples, experience.scores
        group = step_group(samples, scores, experience.demonstrations, experience.guided)
        inputs = step_rows(samples, group, self.stage)
        if draws(self.stage):
            inputs |= self._keys(samples, self.first_step + step)
            if self.objective.values["masking"] == "trajectory":
                inputs[FILL_STEPS] = samples.flat("fill_steps")
        known = arrays_of(experience, version=self.version(step))
        composition = self.context.scorer.composition
        known |= composed_arrays(scores, composition.weights, self.objective.inputs)
        said = self._annotations(with_critic(state, known), inputs, known)
        if self.teacher is not None:
            said["teacher_logprobs"] = self.teacher(inputs, samples.records)
        steps = {FILL_STEPS: inputs[FILL_STEPS]} if FILL_STEPS in inputs else {}
        arrays = step_arrays(group) | known | said | steps
        state, weighed = self._weighed(state, inputs, arrays, step)
        compared = self.learner.compare(
            arrays,
            running_of(self.stage, state.carried),
            step - 1,
            self.noise_key,
            self.first_step,
        )
        trained, running, metrics = to_host(tuple(compared))
        drawn = self._drawn(state, inputs, said) if draws(self.stage) else []
        state = state.replace(carried=state.carried | _placed(running, state.carried))
        numbers = {name: float(value) for name, value in step_numbers(metrics).items()}
        return state, StepBatches(
            batches=marked(self.updates(inputs, trained, step, drawn), state, known),
            metrics=numbers | weighed | experience.metrics,
            seconds=experience.seconds,
            tokens=int(trained["mask"].sum()) * self.stage.batch.epochs_per_step,
            detail=Detail(samples, scores, inputs, trained, np.zeros(trained["mask"].shape), drawn),
        )

    def _weighed(
        self, state: TrainState, inputs: Rows, arrays: Rows, step: int
    ) -> tuple[TrainState, dict[str, float]]:
        """The state with weights of the rewards that follow their gradients on this step's samples.

        As it was, without a metric, where the objective has none.
        """
        if self.weigh is None:
            return state, {}
        known = arrays | running_of(self.stage, state.carried)
        known = with_schedule(known, step - 1, self.stage.steps, self.noise_key, self.first_step)
        rate = self.learner.optimizer.rate(state.optimizer_state)
        rows = put_rows(inputs, self.context.mesh)
        found = to_host(self.weigh(state.params, self.context.frozen, rows, known, rate))
        state = state.replace(
            carried=state.carried | _placed({WEIGHTS: found.weights}, state.carried)
        )
        told = {"objective_weight": found.weights, "gradient_influence": found.influences}
        return state, {
            f"{name}/{place + 1}": float(number)
            for name, numbers in told.items()
            for place, number in enumerate(numbers)
        }

    def _keys(self, samples: Samples, step: int) -> Rows:
        """The keys of the samples' masks; `step` is counted over the whole run."""
        count = samples.samples_per_prompt
        ids = np.array(samples.repeated([record["id"] for record in samples.records]))
        numbers = np.tile(np.arange(count), len(samples.records))
        return likelihood_rows(self.context.config.seed, step, ids, numbers)

    def _drawn(self, state: TrainState, inputs: Rows, first: Rows) -> list[Rows]:
        """What each epoch of a step has of its own where masks are drawn: one mapping for each.

        Its number, which draws its masks; and what the policy before the step and the reference
        say under these masks, in the first epoch `first`.
        """
        count = len(inputs["mask"])
        unknown = {"behavior_logprobs": np.full(inputs["mask"].shape, np.nan, np.float32)}
        epochs = []
        for epoch in range(self.stage.batch.epochs_per_step):
            number = {LIKELIHOOD_EPOCH: np.full(count, epoch, np.int32)}
            said = self._annotations(state, inputs | number, {}) if epoch else first
            names = self.learner.loss.reads & said.keys()
            # What the sampler reports of a token is no number of the bound.
            epochs.append(number | unknown | {name: said[name] for name in names})
        return epochs

    def _annotations(self, state: TrainState, inputs: Rows, known: Rows) -> Rows:
        """What the policy, its reference and its critic say of the samples, [N, T] each."""
        if not self.learner.reads_rows(self.reference, known):
            return {}
        placed = put_rows(inputs, self.context.mesh)
        params = self.context.full(state.params)
        return to_host(self.learner.annotate(params, state.carried, self.reference, placed, known))

    def updates(
        self, inputs: Rows, trained: Rows, step: int, drawn: Sequence[Rows] = ()
    ) -> list[Rows]:
        """The batches of the step's updates, in the layout of `inputs`; `drawn` as `_drawn`."""
        whole = self.learner.whole_batch(inputs, trained)
        whole = {name: np.asarray(array) for name, array in whole.items()}
        row = np.arange(len(trained["mask"]), dtype=np.int32)  # of the step, in any batch
        whole["row"] = row.reshape(inputs["mask"].shape[:-1])
        seed = self.context.config.seed, self.first_step + step
        order = step_order(self.stage.batch, seed=seed)
        epochs = self.stage.batch.epochs_per_step
        of_epoch = [whole | own for own in drawn] or epochs * [whole]
        if len(order) == 1:
            return [of_epoch[0]]
        each = len(order) // epochs
        return [take_rows(of_epoch[number // each], part) for number, part in enumerate(order)]

    def before_update(self, state: TrainState, batch: Rows, batches: StepBatches) -> None:
        """Keeps the ratios of an update's tokens: the policy before it / before the step."""
        detail: Detail = batches.detail
        inputs, start = detail.inputs, detail.rows
        if detail.drawn:
            start = detail.drawn[int(batch[LIKELIHOOD_EPOCH][0])]
            inputs = inputs | {LIKELIHOOD_EPOCH: start[LIKELIHOOD_EPOCH]}
        # In the only update every ratio is 1; without a ratio there is none.
        if self.stage.batch.updates_per_step == 1 or "old_logprobs" not in start:
            return
        placed = put_rows(inputs, self.context.mesh)
        scored = self.learner.logprobs(self.context.full(state.params), placed)
        logprobs = per_sample(to_host(scored))
        log_ratio = np.where(detail.rows["mask"], logprobs - start["old_logprobs"], 0.0)
        updated = batch["row"].reshape(-1)
        detail.log_ratio[updated] = log_ratio[updated]

    def _applied_ratio(self, rows: Rows, before: np.ndarray) -> np.ndarray:
        """The log-ratio [N, T] that the objective uses, of each token's last update.

        Args:
            rows: of the step, [N, T].
            before: [N, T], log of the policy before that update / the policy of the step's start.
        """
        if self.objective.choices["ratio"] == "none":
            return before
        start = rows.get("old_logprobs", rows["behavior_logprobs"])
        behind = self.objective.choices["denominator"] == "behavior"
        arrays = {
            **rows,
            "logprobs": np.where(rows["mask"], start, 0.0) + before,
            "old_logprobs": rows["behavior_logprobs"] if behind else start,
        }
        return np.asarray(apply(self.objective.part("ratio"), arrays))

    def record(self, step: int, batches: StepBatches) -> dict[str, Any]:
        """The step's samples, and what their updates did to them: ratios, dropped gradients."""
        detail: Detail = batches.detail
        rows = detail.rows
        log_ratio = self._applied_ratio(rows, detail.log_ratio)
        dropped = np.zeros(log_ratio.shape, bool)
        if self.objective.choices["surrogate"] == "clipped":
            fields = {name: self.objective.values[name] for name in fields_of(clipped_tokens)}
            clip = functools.partial(clipped_tokens, **fields)
            dropped = np.asarray(clip(log_ratio, rows["advantages"], rows["mask"]))
        reported = rows["behavior_logprobs"]
        if "old_logprobs" in rows:  # no sampler reported those of a solution that was kept
            reported = np.where(np.isnan(reported), rows["old_logprobs"], reported)
        per_token = {
            "logprobs": reported,
            "ratio": np.exp(log_ratio),
            "clipped": dropped,
            "advantage": rows["advantages"],
        }
        samples, shape = detail.samples.samples_per_prompt, log_ratio.shape
        by_prompt = (len(detail.samples.records), -1, shape[1])
        return rollout_record(
            self.context,
            self.stage.name,
            step,
            detail.samples,
            detail.scores,
            {
                name: array.reshape(by_prompt)[:, :samples].reshape(-1, shape[1])
                for name, array in per_token.items()
            },
        )


def compiled_learner(context: Context, stage: Stage) -> Learner:
    """The learner of a stage, each of its functions a program on the mesh of the run."""
    learner, rows = Learner.create(context.network, stage), batch_sharding(context.mesh)
    batch, values = stage.batch, None
    parts = batch.sequences_per_step // batch.sequences_per_micro_batch
    if learner.values is not None:
        values = jax.jit(learner.values, out_shardings=rows)
    return dataclasses.replace(
        learner,
        scores=context.jit_with_params(lambda network: make_scores(network, stage), rows),
        logprobs=context.jit_score(
            stage.token_filter, micro_batches=parts, likelihood=likelihood_of(stage)
        ),
        values=values,
        compare=jax.jit(learner.compare, static_argnums=4),
    )


def compiled_weighing(context: Context, learner: Learner) -> Callable:
    """The program that weighs the rewards of a step by their gradients."""
    stage = learner.stage

    def compare(arrays: dict[str, Array]) -> dict[str, Array]:
        return compare_samples(stage.objective, arrays).trained

    weigh = make_weighing(reward_loss(context.network, stage), compare, learner.whole_batch)
    return jax.jit(weigh)


def _placed(running: Rows, carried: dict[str, Any]) -> dict[str, Array]:
    return {
        name: jax.device_put(jnp.asarray(value, carried[name].dtype), carried[name].sharding)
        for name, value in running.items()
    }
