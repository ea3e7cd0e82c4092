"""One step of one run, on the device from prompts to parameters."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.metrics import SumCount
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests, for_each_prompt
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.prompts import Prompts, make_prompts
from rljax.training.device_loop.rollout import Sampled, sample_step
from rljax.training.learner.group import Group, step_arrays, with_demonstrations
from rljax.training.learner.learner import Learner, running_of
from rljax.training.update.rows import rollout_rows
from rljax.training.update.state import TrainState, first_moments
from rljax.training.update.train_step import Batch, Metrics

PROMPTS = "prompts"  # the state of what chooses problems, among what a run's state carries


class Run(NamedTuple):
    """What may differ between runs that are computed side by side."""

    seed: Array  # [] u32
    order: Array  # [K] i32, its stream of prompts
    values: dict[str, Array]  # "objective.FIELD" or "optimizer.FIELD" -> [] f32


class Plan(NamedTuple):
    """What one step is told."""

    step: Array  # [] i32, from 1
    updates: Array  # [U, rows] i32, the rows of each update (learner/batches.py)


def make_learner(program: DeviceProgram, run: Run) -> Learner:
    """The learner with the run's own numbers."""
    return Learner.create(program.network, with_values(program.stage, run.values))


def with_values(stage: Stage, values: dict[str, Array]) -> Stage:
    """A stage with some numbers of its objective or optimizer replaced, by traced ones say."""
    own = {"objective": {}, "optimizer": {}}
    for name, value in values.items():
        section, field = name.split(".")
        own[section][field] = value
    objective = dataclasses.replace(
        stage.objective, values={**stage.objective.values, **own["objective"]}
    )
    return dataclasses.replace(
        stage, objective=objective, optimizer={**stage.optimizer, **own["optimizer"]}
    )


def first_state(program: DeviceProgram, run: Run, params: Params) -> TrainState:
    """The state that a run starts with."""
    learner, zero = make_learner(program, run), jnp.zeros((), jnp.int32)
    carried = learner.first_carried(params)
    carried[PROMPTS] = run_prompts(program, run).first()
    moments = first_moments(learner.optimizer, params)
    return TrainState(params, moments, zero, zero, zero, carried)


def run_prompts(program: DeviceProgram, run: Run, state: TrainState | None = None) -> Prompts:
    """What chooses the problems of a run; in a step with the state, whose critic may be asked."""
    learner = make_learner(program, run)
    return make_prompts(
        learner.stage, program.train, program.problems, run.seed, run.order, learner, state
    )


def train_step(
    program: DeviceProgram, reference: Params | None, run: Run, state: TrainState, plan: Plan
) -> tuple[TrainState, Metrics]:
    """Samples, verifies, annotates, compares and updates.

    Args:
        program: what is run.
        reference: the frozen policy, where the objective needs one.
        run: what is this run's own.
        state: before the step.
        plan: of the step.
    """
    learner = make_learner(program, run)
    stage, batch = learner.stage, learner.stage.batch
    prompts = run_prompts(program, run, state)
    key = purpose_key(run.seed, Purpose.ROLLOUTS)
    slopes = for_each_prompt(state.carried.get("temperature_slopes"), batch.prompts_per_step)
    sampled, pools, counts, following = sample_step(
        program, state.params, key, prompts, state.carried[PROMPTS], plan.step, slopes
    )
    inputs, arrays = _rows(program, stage, sampled)
    arrays |= pools
    arrays |= learner.annotate(state.params, state.carried, reference, inputs, {})
    if "greedy_scores" in stage.objective.inputs:
        greedy = _greedy_scores(program, state.params, key, sampled, plan.step)
        arrays["greedy_scores"], tokens = greedy
        counts["sampled_tokens"] = tokens + counts.get("sampled_tokens", sampled.group.mask.sum())
    noise_key = purpose_key(run.seed, Purpose.SELECTION)
    running = running_of(stage, state.carried)
    compared = learner.compare(arrays, running, plan.step - 1, noise_key, 0)
    state = state.replace(carried={**state.carried, **compared.running, PROMPTS: following})
    counts |= prompts.metrics(following)
    whole = learner.whole_batch(inputs, compared.trained)
    update_policy = learner.make_update(
        jax.random.fold_in(purpose_key(run.seed, Purpose.ROUNDING), 0)
    )

    def update(state: TrainState, index: Array) -> tuple[TrainState, Metrics]:
        part = jax.tree.map(lambda x: x[index], whole) if len(plan.updates) > 1 else whole
        return update_policy(state, {}, part)

    state, updated = jax.lax.scan(update, state, plan.updates)
    # All metrics are sums, and the host adds them up over the updates as well.
    added = jax.tree.map(lambda x: x.sum(axis=0), updated)
    return state, added | compared.metrics | _sampled_metrics(sampled.group, counts)


def _rows(program: DeviceProgram, stage: Stage, sampled: Sampled) -> tuple[Batch, dict[str, Array]]:
    """The rows that the model runs on, and the arrays of the step."""
    data, group = program.train.take(sampled.index), sampled.group
    if stage.batch.rows_beside:
        tokens, mask = data.solutions, data.solution_mask
        scores, _ = program.judge(data.facts, tokens[:, None], mask[:, None])
        group = with_demonstrations(group, tokens, mask, scores[:, 0])
    inputs = rollout_rows(
        data.prompts,
        data.prompt_mask,
        group.tokens,
        group.mask,
        share_prompts=stage.batch.share_prompts,
    )
    return inputs, step_arrays(group)


def _greedy_scores(
    program: DeviceProgram, params: Params, key: Array, sampled: Sampled, step: Array
) -> tuple[Array, Array]:
    """[N] f32, the score of the greedy completion of each row's prompt; [] i32, their tokens."""
    data = program.train.take(sampled.index)
    requests = Requests(data.prompts, data.prompt_mask, sampled.index)
    rollouts = program.greedy(params, requests, key, step)
    scores, _ = program.judge(data.facts, rollouts.tokens, rollouts.mask)
    repeated = jnp.repeat(scores[:, 0], program.stage.batch.rows_per_prompt)
    return repeated, rollouts.mask.sum()


def _sampled_metrics(group: Group, counts: dict[str, Array]) -> Metrics:
    """What a step's samples look like."""

    def mean(x: Array) -> SumCount:
        return SumCount(x.sum().astype(float), jnp.float32(x.size))

    metrics = {
        "completion_tokens": mean(group.mask.sum(axis=2)),
        "truncated_share": mean(~group.finished),
        "reward": mean(group.scores),
        "accuracy": mean(group.correct),
    }
    one = jnp.float32(1)
    return metrics | {name: SumCount(x.astype(float), one) for name, x in counts.items()}


def evaluate(program: DeviceProgram, params: Params) -> Metrics:
    """Greedy accuracy on the held-out problems."""
    data = program.heldout
    requests = Requests(
        data.prompts, data.prompt_mask, jnp.arange(len(data.prompts), dtype=jnp.int32)
    )
    key = purpose_key(0, Purpose.HELDOUT_SAMPLES)  # greedy completions read no noise
    rollouts = program.evaluate(params, requests, key, jnp.int32(0))
    _, correct = program.judge(data.facts, rollouts.tokens, rollouts.mask)
    count = jnp.float32(len(data.prompts))
    return {
        "accuracy_greedy": SumCount(correct.sum().astype(float), count),
        "completion_tokens": SumCount(rollouts.mask.sum().astype(float), count),
    }
