"""Policy gradients: sample, score, compare, update (papers: see rljax/registry/methods/)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.data.sources import records_for_step, stream
from rljax.models.network import Params
from rljax.objectives.parts import apply, fields_of
from rljax.objectives.surrogates import clipped_tokens
from rljax.objectives.values import critic_loss
from rljax.parallel.rules import batch_sharding, put_rows, replicated
from rljax.rewards.pool import Scores
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.demonstrations import demonstration_scores, demonstrations
from rljax.training.collect.rewards import make_reward, timed_scores
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples, rollout_metrics, sample_texts
from rljax.training.collect.rounds import Sampled, sample_rounds
from rljax.training.families import Experience, Family
from rljax.training.learner.batches import step_order, trained_arrays
from rljax.training.learner.critic import Critic, critic_extra
from rljax.training.learner.experience import kept_groups, make_experience
from rljax.training.learner.group import Group, step_arrays, with_demonstrations
from rljax.training.learner.loss import PolicyLoss
from rljax.training.learner.needs import running_statistics, with_schedule
from rljax.training.learner.scoring import make_scores, make_values, needs_scores
from rljax.training.learner.update import make_policy_update
from rljax.training.run.context import Context, checked_count
from rljax.training.update.metrics import finished
from rljax.training.update.optimizers import build_critic_optimizer
from rljax.training.update.rows import Rows, per_sample, rollout_rows, take_rows
from rljax.training.update.state import Extra, TrainState
from rljax.training.update.train_step import Batch, Metrics, jit_update


class Detail(NamedTuple):
    """A step's samples, kept for the report."""

    samples: Samples
    scores: Scores
    inputs: Rows  # what the model runs on, in the layout of the stage
    rows: Rows  # of the completions, [N, T]
    log_ratio: np.ndarray  # [N, T], that each token's last update started from; see `observe`


class Further(NamedTuple):
    """What a class adds to the samples of a step before they are compared."""

    arrays: Rows  # [N] and [N, T] by name (objectives/arrays.py); they replace those of the step
    metrics: dict[str, float]
    seconds: dict[str, float]  # by phase


class PolicyGradient(Family):
    """Methods that compare samples of the policy by what a verifier says of them."""

    skip_metrics = ("updates_skipped", "critic/updates_skipped")

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        self.objective = stage.objective
        self.first_step = first_step  # steps of earlier stages: noise is drawn by run, not by stage
        self.key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
        self.prompts = stream(context.train_problems, seed=context.config.seed, shuffle=True)
        self.engine = self._engine(stage.batch.samples_per_prompt, stage.token_filter)
        self.greedy = None
        if "greedy_scores" in self.objective.inputs:
            self.greedy = self._engine(1, TokenFilter(temperature=0.0))
        self.loss = PolicyLoss(context.network, stage)
        self.critic = make_critic(context, stage)
        self.idle_updates = stage.critic.get("warmup_updates", 0)  # of the critic alone
        self.reward = make_reward(context, stage)
        whole = stage.batch.sequences_per_step // stage.batch.sequences_per_micro_batch
        self.score = context.jit_statistics(stage.token_filter, micro_batches=whole)
        self.scores = context.jit_with_params(
            lambda network: make_scores(network, stage), batch_sharding(context.mesh)
        )
        self.compare = jax.jit(self._compare)
        self._keeps = jax.jit(functools.partial(kept_groups, self.objective))

    def _engine(self, samples: int, token_filter: TokenFilter) -> Any:
        return self.context.make_engine(
            samples_per_prompt=samples,
            max_new_tokens=self.stage.max_new_tokens,
            token_filter=token_filter,
            stop_strings=self.stage.stop_strings,
        )

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Encodes the demonstrations of the first problems, where the stage reads them."""
        if stage.batch.demonstrations_per_prompt:
            count = checked_count(context.train_problems)
            demonstrations(context, stage, [context.train_problems[i] for i in range(count)])

    @staticmethod
    def extra(context: Context, stage: Stage) -> Extra:
        """Running statistics, and the critic."""
        first = running_statistics(stage)
        whole = replicated(context.mesh)
        critic = make_critic(context, stage)
        rest = Extra() if critic is None else critic_extra(critic, context.mesh)

        def create(params: Params) -> dict[str, Any]:
            return {name: jnp.asarray(value) for name, value in first.items()} | rest.create(params)

        return Extra(create, {name: whole for name in first} | rest.shardings)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The loss of a part of a prepared batch."""
        return self.loss.loss_fn(params, batch)

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """What the whole batch of an update adds to its rows."""
        return self.loss.prepare(params, batch)

    def make_update(
        self, optimizer: optax.GradientTransformation, rounding_key: Array | None
    ) -> Callable:
        """The jitted update of policy and critic."""
        update = make_policy_update(self.loss, optimizer, self.critic, rounding_key=rounding_key)
        mesh, extra = self.context.mesh, self.extra(self.context, self.stage)
        return jit_update(update, self.context.network, optimizer, mesh, extra)

    def collect(self, state: TrainState, step: int) -> tuple[TrainState, Experience]:
        """Samples, scores, compares; see the picture of the data flow in the README."""
        params, batch = self.context.full(state.params), self.stage.batch
        weights = self.engine.load(params)
        sampled = self._sampled(weights, state, step)
        samples, scores = sampled.samples, sampled.scores
        group = step_group(samples, scores)
        if batch.demonstrations_per_prompt:
            shown = self.context, self.stage, samples.records
            tokens, mask = demonstrations(*shown)
            group = with_demonstrations(group, tokens, mask, demonstration_scores(*shown, mask))
        inputs = self._inputs(samples, group)
        arrays = step_arrays(group) | self._scored(params, state, inputs)
        seconds = {"sampling": samples.seconds, "scoring": sampled.scoring_seconds}
        if self.greedy is not None:
            arrays["greedy_scores"], spent = self._greedy_scores(weights, samples, step)
            seconds = {phase: seconds[phase] + more for phase, more in spent.items()}
        further = self.further_arrays(weights, samples, scores, arrays, step)
        arrays |= further.arrays
        running = {name: state.extra[name] for name in running_statistics(self.stage)}
        trained, moved, compared = jax.device_get(self.compare(arrays, running, step - 1))
        batches = self.batches(
            inputs, trained, seed=(self.context.config.seed, self.first_step + step)
        )
        if "prompts_taken" in running:
            moved["prompts_taken"] = (
                running["prompts_taken"] + sampled.rounds * batch.prompts_per_step
            )
        state = state.replace(extra=state.extra | _placed(moved, state.extra))
        metrics = self._metrics(sampled)
        metrics |= {name: float(value) for name, value in finished(compared).items()}
        metrics |= further.metrics
        seconds |= {phase: seconds[phase] + more for phase, more in further.seconds.items()}
        tokens = int(trained["mask"].sum()) * batch.epochs_per_step
        detail = Detail(samples, scores, inputs, trained, np.zeros(trained["mask"].shape))
        return state, Experience(batches, metrics, seconds, tokens, detail)

    def further_arrays(
        self, weights: Params, samples: Samples, scores: Scores, arrays: Rows, step: int
    ) -> Further:
        """Arrays that take more than the samples of the step; for classes that sample further.

        Args:
            weights: of the sampler, before the step's updates.
            samples: of the step.
            scores: of the N samples.
            arrays: of the step so far, by name, on the host.
            step: of the stage, from 1.
        """
        return Further({}, {}, {})

    def _sampled(self, weights: Params, state: TrainState, step: int) -> Sampled:
        """The samples of a step, as many rounds as it takes."""
        count, filtered = self.stage.batch.prompts_per_step, "prompts_taken" in state.extra
        start = int(state.extra["prompts_taken"]) if filtered else (step - 1) * count

        def sample(number: int) -> tuple[Samples, Scores, float]:
            records = records_for_step(self.prompts, start // count + number, count)
            samples = sample_texts(
                *(self.context, self.engine, weights, records),
                key=self.key,
                step=self.first_step + step,
                epoch=number,
                temperature_slopes=state.extra.get("temperature_slopes"),
            )
            return samples, *timed_scores(self.reward, samples)

        def keep(samples: Samples, scores: Scores) -> np.ndarray:
            kept = self._keeps(step_arrays(step_group(samples, scores)))
            return np.asarray(kept).reshape(count, -1).any(axis=1)

        rounds = self.objective.values["filter_rounds"] if filtered else 1
        return sample_rounds(sample, keep, prompts=count, rounds=rounds)

    def _greedy_scores(
        self, weights: Params, samples: Samples, step: int
    ) -> tuple[np.ndarray, dict[str, float]]:
        """[N] f32, the score of the greedy completion of each row's prompt; seconds by phase."""
        greedy = sample_texts(
            *(self.context, self.greedy, weights, samples.records),
            key=self.key,
            step=self.first_step + step,
        )
        scores, scoring = timed_scores(self.reward, greedy)
        seconds = {"sampling": greedy.seconds, "scoring": scoring}
        return np.repeat(scores.total, self.stage.batch.rows_per_prompt), seconds

    def _inputs(self, samples: Samples, group: Group) -> Rows:
        """The rows that the model runs on."""
        inputs = rollout_rows(
            samples.prompts,
            samples.prompt_mask,
            group.tokens,
            group.mask,
            share_prompts=self.stage.batch.share_prompts,
        )
        if self.stage.token_filter.entropy_temperature is not None:
            # What was used, not what the moved policy would use: a constant of the update.
            used = np.ones(group.mask.shape, np.float32)
            sampled = samples.rollouts
            used[:, : sampled.tokens.shape[1]] = np.where(sampled.mask, sampled.temperature, 1.0)
            inputs["temperature"] = used.reshape(inputs["mask"].shape)
        return inputs

    def _scored(self, params: Params, state: TrainState, inputs: Rows) -> Rows:
        """What this method needs to know of its samples: log-probabilities, entropies, values."""
        scored = {}
        early = needs_scores(self.stage)
        if early or self.reference is not None or self.critic is not None:
            placed = put_rows(inputs, self.context.mesh)
            if early:
                scored |= self.scores(params, placed)
            if self.reference is not None:
                scored["ref_logprobs"] = self.score(self.reference, placed)["logprobs"]
            if self.critic is not None:
                scored["values"] = self._values(state.extra["critic"].params, params, placed)
        return {name: per_sample(array) for name, array in jax.device_get(scored).items()}

    @functools.cached_property
    def _values(self) -> Callable:
        values = make_values(self.critic, self.stage)
        return jax.jit(values, out_shardings=batch_sharding(self.context.mesh))

    def _compare(self, arrays: Rows, running: dict[str, Array], done: Array) -> tuple:
        """`make_experience` on what was sampled."""
        noise_key = purpose_key(self.context.config.seed, Purpose.SELECTION)
        return make_experience(
            self.objective,
            with_schedule(arrays | running, done, self.stage.steps, noise_key, self.first_step),
        )

    def batches(self, inputs: Rows, rows: Rows, *, seed: tuple[int, ...]) -> list[Rows]:
        """The batches of the step's updates, in the layout of `inputs`."""
        shape = inputs["mask"].shape
        whole = inputs | {"mask": rows["mask"].reshape(shape)}
        row = np.arange(len(rows["mask"]), dtype=np.int32)  # of the step, in any batch
        for name, array in (trained_arrays(self.loss, rows) | {"row": row}).items():
            whole[name] = np.asarray(array).reshape(shape if array.ndim == 2 else shape[:-1])
        order = step_order(self.stage.batch, seed=seed)
        return [whole] if len(order) == 1 else [take_rows(whole, part) for part in order]

    def _metrics(self, sampled: Sampled) -> dict[str, float]:
        metrics = rollout_metrics(sampled.samples, sampled.scores)
        metrics["scoring_failures"] = float(sampled.failed)
        if self.objective.choices["group_filter"] != "none":
            metrics["sampling_rounds"] = float(sampled.rounds)
            metrics["filled_prompts"] = float(sampled.filled)
        return metrics

    def observe(self, state: TrainState, batch: Rows, experience: Experience) -> None:
        """Keeps the ratios of an update's tokens: the policy before it / before the step."""
        if self.stage.batch.updates_per_step == 1:  # every ratio is 1
            return
        detail: Detail = experience.detail
        placed = put_rows(detail.inputs, self.context.mesh)
        scored = self.score(self.context.full(state.params), placed)["logprobs"]
        logprobs = per_sample(jax.device_get(scored))
        log_ratio = np.where(detail.rows["mask"], logprobs - detail.rows["old_logprobs"], 0.0)
        updated = batch["row"].reshape(-1)
        detail.log_ratio[updated] = log_ratio[updated]

    def _applied_ratio(self, rows: Rows, moved: np.ndarray) -> np.ndarray:
        """The log-ratio [N, T] that the objective uses, of each token's last update.

        Args:
            rows: of the step, [N, T].
            moved: [N, T], the policy before that update / the policy of the step's start.
        """
        if self.objective.choices["ratio"] == "none":
            return moved
        start = rows.get("old_logprobs", rows["behavior_logprobs"])
        behind = self.objective.choices["denominator"] == "behavior"
        arrays = {
            **rows,
            "logprobs": np.where(rows["mask"], start, 0.0) + moved,
            "old_logprobs": rows["behavior_logprobs"] if behind else start,
        }
        return np.asarray(apply(self.objective.part("ratio"), arrays))

    def record(self, step: int, experience: Experience) -> dict[str, Any]:
        """The step's samples, and what their updates did to them: ratios, dropped gradients."""
        detail: Detail = experience.detail
        rows = detail.rows
        log_ratio = self._applied_ratio(rows, detail.log_ratio)
        dropped = np.zeros(log_ratio.shape, bool)
        if self.objective.choices["surrogate"] == "clipped":
            fields = {name: self.objective.values[name] for name in fields_of(clipped_tokens)}
            clip = functools.partial(clipped_tokens, **fields)
            dropped = np.asarray(clip(log_ratio, rows["advantages"], rows["mask"]))
        per_token = {
            "logprobs": rows["behavior_logprobs"],
            "ratio": np.exp(log_ratio),
            "clipped": dropped,
            "advantage": rows["advantages"],
        }
        samples, shape = detail.samples.samples_per_prompt, log_ratio.shape
        by_prompt = (len(detail.samples.records), -1, shape[1])
        return rollout_record(
            *(self.context, self.stage.name, step, detail.samples, detail.scores),
            {
                name: array.reshape(by_prompt)[:, :samples].reshape(-1, shape[1])
                for name, array in per_token.items()
            },
        )


def step_group(samples: Samples, scores: Scores) -> Group:
    """A step's samples by prompt."""
    rollouts = samples.rollouts
    shape = rollouts.mask.shape[:2]
    return Group(
        tokens=rollouts.tokens,
        mask=rollouts.mask,
        logprobs=rollouts.logprobs,
        finished=rollouts.finished,
        scores=scores.total.reshape(shape),
        correct=scores.correct.reshape(shape),
    )


def make_critic(context: Context, stage: Stage) -> Critic | None:
    """The critic of a stage whose objective has targets for one."""
    if stage.objective.choices["value_target"] == "none":
        return None
    return Critic.create(
        context.network,
        build_critic_optimizer(stage),
        stage.objective.bind(critic_loss),
        stage.critic,
        stage.batch.micro_batches,
    )


def _placed(moved: Rows, extra: dict[str, Any]) -> dict[str, Array]:
    return {
        name: jax.device_put(jnp.asarray(value, extra[name].dtype), extra[name].sharding)
        for name, value in moved.items()
    }
