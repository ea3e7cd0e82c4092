"""Critic-free policy gradients: sample, score, compare, update (papers: see rljax/registry.py)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.validate import Stage
from rljax.data.sources import records_for_step, stream
from rljax.models.network import Params
from rljax.objectives.advantages import BASELINE_UPDATES
from rljax.objectives.advantages.groups import share_without_signal
from rljax.objectives.kl import k3
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import fields_of
from rljax.objectives.policy_gradient import kl_in_reward, policy_gradient_loss
from rljax.objectives.surrogates import clipped_tokens
from rljax.parallel.rules import put_rows
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.balancing import balance_loss
from rljax.training.context import Context
from rljax.training.families import Experience
from rljax.training.logprobs import completion_statistics
from rljax.training.rollout_record import rollout_record
from rljax.training.rollouts import Samples, rollout_metrics, sample_texts, score_samples
from rljax.training.rows import (
    Rows,
    per_sample,
    place_at_last_token,
    rollout_rows,
    update_batches,
)
from rljax.training.state import TrainState
from rljax.training.train_step import Batch, Metrics

# Arrays of a batch that hold one number for each token of each sample, where they are present.
PER_TOKEN = (
    "mask",
    "advantages",
    "weights",
    "behavior_logprobs",
    "old_logprobs",
    "ref_logprobs",
)


class Detail(NamedTuple):
    """A step's samples, kept for the report."""

    samples: Samples
    scores: Scores
    inputs: Rows  # what `score` reads, in the layout of the stage
    rows: Rows  # of the completions, [N, T]
    log_ratio: np.ndarray  # [N, T], that each token's last update started from; see `observe`


class PolicyGradient:
    """Group-relative and REINFORCE-like methods against a verifier."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        self.first_step = first_step  # steps of earlier stages: noise is drawn by run, not by stage
        self.key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
        self.prompts = stream(context.train_problems, seed=context.config.seed, shuffle=True)
        self.engine = context.make_engine(
            samples_per_prompt=stage.batch.samples_per_prompt,
            max_new_tokens=stage.max_new_tokens,
            token_filter=stage.token_filter,
            stop_strings=stage.stop_strings,
        )
        whole_step = stage.batch.sequences_per_step // stage.batch.sequences_per_micro_batch
        self.score = context.jit_score(stage.token_filter, micro_batches=whole_step)
        objective = stage.objective
        placement = objective.choices["kl_placement"]
        self.ratio, self.surrogate = objective.part("ratio"), objective.part("surrogate")
        self.weigh = jax.jit(objective.part("aggregation"))
        self.kl_in_loss = objective.kl if placement == "loss" else None
        self.kl_in_reward = objective.kl if placement == "reward" else None
        # With one update the policy that sampled is the policy that learns: no extra forward pass.
        self.stores_old = stage.batch.updates_per_step > 1 or self.kl_in_reward is not None
        self.advantages = jax.jit(self._advantages)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """The problems were checked when they were opened."""

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The policy-gradient loss of a micro-batch (objectives/policy_gradient.py)."""
        network, values = self.context.network, self.stage.objective.values
        statistics = completion_statistics(network, params, batch, self.stage.token_filter)
        # To the objective samples are [N, T] in either layout of the rows.
        flat = {name: per_sample(batch[name]) for name in PER_TOKEN if name in batch}
        logprobs, entropy = per_sample(statistics.logprobs), per_sample(statistics.entropy)
        mask = flat["mask"]
        old_logprobs = flat.get("old_logprobs", jax.lax.stop_gradient(logprobs))
        ref_logprobs = flat.get("ref_logprobs")
        arrays = flat | {"logprobs": logprobs, "old_logprobs": old_logprobs, "entropy": entropy}
        loss, metrics = policy_gradient_loss(
            arrays,
            ratio=self.ratio,
            surrogate=self.surrogate,
            kl=self.kl_in_loss,
            kl_weight=values["kl_weight"] if self.kl_in_loss else 0.0,
            kl_importance_weighted=bool(self.kl_in_loss)
            and values.get("kl_importance_weighted", False),
            entropy_weight=values["entropy_weight"],
        )
        gap = jnp.abs(old_logprobs - flat["behavior_logprobs"])
        metrics["sampler_trainer_gap"] = masked(gap, mask)
        if ref_logprobs is not None:
            metrics["kl_to_start"] = masked(k3(logprobs, ref_logprobs, mask), mask)
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(flat["weights"] * loss) + balance, metrics | balance_metrics

    def collect(self, state: TrainState, step: int) -> tuple[TrainState, Experience]:
        """Samples, scores, compares; see the picture of the data flow in the README."""
        batch = self.stage.batch
        records = records_for_step(self.prompts, step - 1, batch.prompts_per_step)
        samples = sample_texts(
            self.context,
            self.engine,
            self.engine.load(self.context.full(state.params)),
            records,
            key=self.key,
            step=self.first_step + step,
        )
        scores, scoring_seconds = score_samples(self.context, samples)
        inputs = rollout_rows(
            samples.prompts,
            samples.prompt_mask,
            samples.rollouts.tokens,
            samples.rollouts.mask,
            share_prompts=batch.share_prompts,
        )
        if self.stage.token_filter.entropy_temperature is not None:
            # What was used, not what the moved policy would use: a constant of the update.
            used = samples.rollouts.temperature.reshape(inputs["mask"].shape)
            inputs["temperature"] = np.where(inputs["mask"], used, np.float32(1.0))
        rows = {"mask": samples.flat("mask"), "behavior_logprobs": samples.flat("logprobs")}
        rows |= self._scored(self.context.full(state.params), inputs)
        advantages, baseline, no_signal = jax.device_get(
            self.advantages(
                place_at_last_token(scores.total, rows["mask"]),
                rows["mask"],
                np.repeat(np.arange(len(records)), samples.samples_per_prompt),
                state.baseline,
                {name: rows[name] for name in ("old_logprobs", "ref_logprobs") if name in rows},
            )
        )
        rows["advantages"] = advantages
        batches = self.batches(
            inputs, rows, seed=(self.context.config.seed, self.first_step + step)
        )
        metrics = rollout_metrics(samples, scores)
        metrics["groups_without_signal"] = float(no_signal.mean())
        seconds = {"sampling": samples.seconds, "scoring": scoring_seconds}
        tokens = int(rows["mask"].sum()) * batch.epochs_per_step
        state = state.replace(baseline=jax.device_put(baseline, state.baseline.sharding))
        detail = Detail(samples, scores, inputs, rows, np.zeros(rows["mask"].shape, np.float32))
        return state, Experience(batches, metrics, seconds, tokens, detail)

    def _scored(self, params: Params, inputs: Rows) -> Rows:
        """The log-probabilities that this method needs, under the old and the reference policy."""
        scored = {}
        if self.stores_old or self.reference is not None:
            placed = put_rows(inputs, self.context.mesh)
            if self.stores_old:
                scored["old_logprobs"] = self.score(params, placed)
            if self.reference is not None:
                scored["ref_logprobs"] = self.score(self.reference, placed)
        return {name: per_sample(array) for name, array in jax.device_get(scored).items()}

    def batches(self, inputs: Rows, rows: Rows, *, seed: tuple[int, ...]) -> list[Rows]:
        """The batches of the step's updates, in the layout of `inputs`.

        All samples of a prompt are in the same update where its size is a multiple of theirs, in
        either layout.
        """
        batch, shape = self.stage.batch, inputs["mask"].shape
        together = batch.sequences_per_update % batch.samples_per_prompt == 0
        whole = inputs | {name: array.reshape(shape) for name, array in rows.items()}
        samples = np.arange(len(rows["mask"]), dtype=np.int32)
        whole["row"] = samples.reshape(shape[:-1])  # of the step, in any batch
        batches = update_batches(
            whole,
            rows_per_update=batch.sequences_per_update * len(whole["row"]) // len(samples),
            epochs=batch.epochs_per_step,
            seed=seed,
            unit=batch.samples_per_prompt if together and len(shape) == 2 else 1,
        )
        for update in batches:
            weights = np.asarray(self.weigh(per_sample(update["mask"])), np.float32)
            update["weights"] = weights.reshape(update["mask"].shape)
        return batches

    def _advantages(
        self,
        rewards: Array,
        mask: Array,
        group_ids: Array,
        baseline: Array,
        scored: dict[str, Array],
    ) -> tuple[Array, Array, SumCount]:
        """Advantages [N, T], the moved baseline [], and the share of groups without signal."""
        objective = self.stage.objective
        no_signal = share_without_signal(rewards, mask, group_ids)
        if self.kl_in_reward is not None:
            rewards = kl_in_reward(
                rewards,
                scored["old_logprobs"],
                scored["ref_logprobs"],
                mask,
                kl_weight=objective.values["kl_weight"],
                kl=self.kl_in_reward,
            )
        part = objective.part("advantage")
        update = BASELINE_UPDATES.get(objective.choices["advantage"])
        if update is None:
            return part(rewards, mask, group_ids), baseline, no_signal
        fields = {name: objective.values[name] for name in fields_of(update)}
        advantages = part(rewards, mask, group_ids, baseline)
        return advantages, update(baseline, rewards, mask, **fields), no_signal

    def observe(self, state: TrainState, batch: Rows, experience: Experience) -> None:
        """Keeps the ratios of an update's tokens: the policy before it / before the step."""
        if not self.stores_old:  # a single update: every ratio is 1
            return
        detail: Detail = experience.detail
        placed = put_rows(detail.inputs, self.context.mesh)
        logprobs = per_sample(jax.device_get(self.score(self.context.full(state.params), placed)))
        log_ratio = np.where(detail.rows["mask"], logprobs - detail.rows["old_logprobs"], 0.0)
        updated = batch["row"].reshape(-1)
        detail.log_ratio[updated] = log_ratio[updated]

    def record(self, step: int, experience: Experience) -> dict[str, Any]:
        """The step's samples, and what their updates did to them: ratios, dropped gradients."""
        detail: Detail = experience.detail
        rows, log_ratio = detail.rows, detail.log_ratio
        dropped = np.zeros(log_ratio.shape, bool)
        if self.stage.objective.choices["surrogate"] == "clipped":
            fields = {name: self.stage.objective.values[name] for name in fields_of(clipped_tokens)}
            clip = functools.partial(clipped_tokens, **fields)
            dropped = np.asarray(clip(log_ratio, rows["advantages"], rows["mask"]))
        return rollout_record(
            self.context,
            self.stage.name,
            step,
            detail.samples,
            detail.scores,
            {
                "logprobs": rows["behavior_logprobs"],
                "ratio": np.exp(log_ratio),
                "clipped": dropped,
                "advantage": rows["advantages"],
            },
        )
