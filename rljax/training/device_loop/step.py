"""One step of one run, on the device from prompts to parameters."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.metrics import SumCount
from rljax.objectives.values import critic_loss
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests, for_each_prompt
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.rollout import Sampled, sample_step
from rljax.training.learner.batches import trained_arrays
from rljax.training.learner.critic import Critic
from rljax.training.learner.experience import make_experience
from rljax.training.learner.group import Group, step_arrays, with_demonstrations
from rljax.training.learner.loss import PolicyLoss
from rljax.training.learner.needs import running_statistics, with_schedule
from rljax.training.learner.scoring import make_scores, make_values, needs_scores
from rljax.training.learner.update import make_policy_update
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import make_score
from rljax.training.update.optimizers import build_critic_optimizer, build_optimizer
from rljax.training.update.rows import per_sample, rollout_rows
from rljax.training.update.state import TrainState, first_moments
from rljax.training.update.train_step import Batch, Metrics


class Run(NamedTuple):
    """What may differ between runs that are computed side by side."""

    seed: Array  # [] u32
    order: Array  # [K] i32, its stream of prompts
    values: dict[str, Array]  # "objective.FIELD" or "optimizer.FIELD" -> [] f32


class Plan(NamedTuple):
    """Of one step."""

    step: Array  # [] i32, from 1
    updates: Array  # [U, rows] i32, the rows of each update (policy_gradient/batches.py)


class Pieces(NamedTuple):
    """A run's functions; its traced numbers are bound."""

    stage: Stage
    loss: PolicyLoss
    critic: Critic | None
    update: Callable
    optimizer: Callable


def make_pieces(program: DeviceProgram, run: Run) -> Pieces:
    """The parts of the objective with the run's own numbers."""
    stage = with_values(program.stage, run.values)
    loss = PolicyLoss(program.network, stage)
    optimizer, critic = build_optimizer(stage), None
    if stage.objective.choices["value_target"] != "none":
        critic = Critic.create(
            program.network,
            build_critic_optimizer(stage),
            stage.objective.bind(critic_loss),
            stage.critic,
            stage.batch.micro_batches,
        )
    key = jax.random.fold_in(purpose_key(run.seed, Purpose.ROUNDING), 0)
    update = make_policy_update(loss, optimizer, critic, rounding_key=key)
    return Pieces(stage, loss, critic, update, optimizer)


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
    pieces, zero = make_pieces(program, run), jnp.zeros((), jnp.int32)
    extra = {name: jnp.asarray(value) for name, value in running_statistics(pieces.stage).items()}
    if pieces.critic is not None:
        extra["critic"] = pieces.critic.first_state(params)
    moments = first_moments(pieces.optimizer, params)
    return TrainState(params, moments, zero, zero, zero, extra)


def train_step(
    program: DeviceProgram, reference: Params | None, run: Run, state: TrainState, plan: Plan
) -> tuple[TrainState, Metrics]:
    """Samples, verifies, compares and updates; the device's `PolicyGradient.collect` and more.

    Args:
        program: what is run.
        reference: the frozen policy, where the objective needs one.
        run: what is this run's own.
        state: before the step.
        plan: of the step.
    """
    pieces = make_pieces(program, run)
    stage, batch = pieces.stage, pieces.stage.batch
    filtered = "prompts_taken" in state.extra
    start = state.extra["prompts_taken"] if filtered else (plan.step - 1) * batch.prompts_per_step
    key = purpose_key(run.seed, Purpose.ROLLOUTS)
    slopes = for_each_prompt(state.extra.get("temperature_slopes"), batch.prompts_per_step)
    sampled, counts = sample_step(program, state.params, key, run.order, start, plan.step, slopes)
    inputs, arrays = _rows(program, stage, sampled)
    arrays |= _scored(program, pieces, reference, state, inputs)
    if "greedy_scores" in stage.objective.inputs:
        greedy = _greedy_scores(program, state.params, key, sampled, plan.step)
        arrays["greedy_scores"], tokens = greedy
        counts["sampled_tokens"] = tokens + counts.get("sampled_tokens", sampled.group.mask.sum())
    running = {name: state.extra[name] for name in running_statistics(stage)}
    noise_key = purpose_key(run.seed, Purpose.SELECTION)
    trained, moved, metrics = make_experience(
        stage.objective,
        with_schedule(arrays | running, plan.step - 1, stage.steps, noise_key, 0),
    )
    if filtered:
        moved["prompts_taken"] = start + counts["sampling_rounds"] * batch.prompts_per_step
    state = state.replace(extra={**state.extra, **moved})
    whole = _whole_batch(pieces.loss, inputs, trained)

    def update(state: TrainState, index: Array) -> tuple[TrainState, Metrics]:
        part = jax.tree.map(lambda x: x[index], whole) if len(plan.updates) > 1 else whole
        return pieces.update(state, {}, part)

    state, updated = jax.lax.scan(update, state, plan.updates)
    # All metrics are sums, and the host adds them up over the updates as well.
    added = jax.tree.map(lambda x: x.sum(axis=0), updated)
    return state, added | metrics | _sampled_metrics(sampled.group, counts)


def _rows(program: DeviceProgram, stage: Stage, sampled: Sampled) -> tuple[Batch, dict[str, Array]]:
    """The rows that the model runs on, and the arrays of the step."""
    data, group = program.train.take(sampled.index), sampled.group
    if stage.batch.demonstrations_per_prompt:
        shown = data.solutions, data.solution_mask
        scores, _ = program.judge(data.facts, *(x[:, None] for x in shown))
        group = with_demonstrations(group, *shown, scores[:, 0])
    inputs = rollout_rows(
        data.prompts,
        data.prompt_mask,
        group.tokens,
        group.mask,
        share_prompts=stage.batch.share_prompts,
    )
    return inputs, step_arrays(group)


def _scored(
    program: DeviceProgram,
    pieces: Pieces,
    reference: Params | None,
    state: TrainState,
    inputs: Batch,
) -> dict[str, Array]:
    """What the objective needs to know of the samples."""
    batch, scored = pieces.stage.batch, {}
    parts = batch.sequences_per_step // batch.sequences_per_micro_batch
    if reference is not None:
        score = make_score(
            program.network,
            pieces.stage.token_filter,
            micro_batches=parts,
            likelihood=likelihood_of(pieces.stage),
        )
        scored["ref_logprobs"] = score(reference, inputs)
    if needs_scores(pieces.stage):
        scored |= make_scores(program.network, pieces.stage)(state.params, inputs)
    if pieces.critic is not None:
        values = make_values(pieces.critic, pieces.stage)
        scored["values"] = values(state.extra["critic"].params, state.params, inputs)
    return {name: per_sample(array) for name, array in scored.items()}


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


def _whole_batch(loss: PolicyLoss, inputs: Batch, trained: dict[str, Array]) -> Batch:
    """The rows of a step in their layout, with the arrays that updates read."""
    shape = inputs["mask"].shape
    arrays = trained_arrays(loss, trained) | {"mask": trained["mask"]}
    return inputs | {
        name: array.reshape(shape if array.ndim == 2 else shape[:-1])
        for name, array in arrays.items()
    }


def _sampled_metrics(group: Group, counts: dict[str, Array]) -> Metrics:
    """What a step's samples look like."""
    mean = lambda x: SumCount(x.sum().astype(float), jnp.float32(x.size))  # noqa: E731
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
