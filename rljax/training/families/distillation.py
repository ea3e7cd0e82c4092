"""Distillation stages: completions are learned as a frozen teacher would continue them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rljax.config.stage import Stage
from rljax.models.frozen_base import parameter_shardings
from rljax.models.network import Network, Params
from rljax.objectives.arrays import OF_TEACHER
from rljax.objectives.metrics import masked
from rljax.objectives.parts import apply
from rljax.registry.families.distillation import OF_SAMPLES
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.experience import Experience
from rljax.training.collect.mixed import distillation_source, given_completions
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import NO_VERSION, Samples, padded_prompts
from rljax.training.collect.sources import stage_engine
from rljax.training.collect.teachers import check_teacher_names, teacher_ids
from rljax.training.collect.told_prompts import (
    PROMPT_CONTEXTS,
    check_feedback,
    told_of_samples,
    told_prompts,
    told_samples,
)
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context
from rljax.training.run.models import role_names
from rljax.training.run.problems import checked_records
from rljax.training.update.balancing import balance_loss
from rljax.training.update.beside import UpdateBesideCopy, split_beside
from rljax.training.update.logprobs import completion_statistics
from rljax.training.update.moving_copy import (
    TEACHER,
    carried_copy,
    check_moves,
    jit_move,
    moved,
)
from rljax.training.update.rows import Rows, completion_rows, per_sample, rollout_rows
from rljax.training.update.sequences import END_SHARE, end_learned_share
from rljax.training.update.state import Carried, TrainState, placed
from rljax.training.update.token_divergence import (
    DIVERGENCE,
    FrozenModel,
    compared_statistics,
    make_compare,
)
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import Batch, Metrics, jit_train_step

# What the teacher reads, where that is more than the policy does, has names in a batch that begin
# with this.
TOLD = "told_"

# Share of a step's samples of which the teacher was told something: another right sample, say.
TOLD_SHARE = "told_share"

# The teacher of each row, its place among several.
TEACHER_IDS = "teacher_ids"

# What the sampler said of the tokens, where the loss reads it.
BEHAVIOR = "behavior_logprobs"


class Detail(NamedTuple):
    """A step's samples, kept for the report; None where they are demonstrations."""

    samples: Samples | None


class Distillation(Family):
    """Brings the policy near a teacher, on the policy's own samples or on others."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage = context, stage
        check_mixes(context, stage)
        objective = stage.objective
        self.compares = not OF_TEACHER.isdisjoint(objective.inputs)
        self.moves = objective.choices["teacher_update"] == "moving"
        self.names = tuple(stage.models.get("teacher", {}).get("names", ()))
        if self.moves:
            self.move = jit_move(context.network, context.mesh)
        if self.compares:
            self.in_loss = () if self.moves else tuple(role_names(stage, "teacher"))
            mixed = objective.choices["teacher_update"] == "mixed"
            self.policy_share = objective.values["teacher_mixup"] if mixed else 0.0
            self.compare = make_compare(
                objective.part("divergence"),
                objective.part("support"),
                objective.values["teacher_temperature"],
            )
        self.corrects = objective.choices["correction"] != "none"
        self.token_loss = objective.bind(objective.functions["token_loss"])
        self.weigh = jax.jit(objective.part("aggregation"))
        self.source = distillation_source(context, stage, first_step)

    @staticmethod
    def carried(context: Context, stage: Stage) -> Carried:
        """The teacher, where it follows the policy."""
        if stage.objective.choices["teacher_update"] != "moving":
            return Carried()
        return carried_copy(TEACHER, context.network, context.mesh)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Builds the sampler; encodes the first demonstrations, where they are read."""
        stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        choices, problems = stage.objective.choices, context.train_problems
        check_moves(context.network, stage, TEACHER)
        check_mixes(context, stage)
        check_teacher_names(context, stage)
        if choices["off_policy"] == "demonstrations":
            given_completions(context, stage, checked_records(problems))
        if choices["teacher_context"] in PROMPT_CONTEXTS:
            told_prompts(context, stage, checked_records(problems))
        if choices["teacher_context"] in OF_SAMPLES:
            check_feedback(context, stage)
        if choices["teacher_context"] != "same":
            context.network.config.check_positions(
                context.config.data.max_prompt_tokens
                + stage.data["max_context_tokens"]
                + stage.max_new_tokens,
                "A teacher's prompt and a completion",
                f"lower config.{stage.name}.data.max_context_tokens",
            )

    def statistics(self, params: Params, beside: Params, batch: Batch) -> TokenStatistics:
        """The policy's statistics; how far the teacher is, where the loss reads it."""
        network = self.context.network
        if not self.compares:
            return completion_statistics(network, params, batch, TokenFilter())
        told = {
            name.removeprefix(TOLD): array for name, array in batch.items() if name.startswith(TOLD)
        }
        rows = told | {"mask": batch["mask"]} if told else None
        # Not in the order of `beside`, which is sorted inside a jit: teacher_10 before teacher_2.
        roles = (TEACHER,) if self.moves else self.in_loss
        models = [FrozenModel(self._network_of(role), beside[role]) for role in roles]
        which = batch.get(TEACHER_IDS)
        return compared_statistics(
            network,
            params,
            models,
            batch,
            self.compare,
            other_rows=rows,
            which=which,
            policy_share=self.policy_share,
        )

    def _network_of(self, role: str) -> Network:
        """The network of a model beside the policy; a copy of the policy has the policy's."""
        return self.context.network if self.moves else self.context.models[role].network

    def beside_in(self, state: TrainState) -> dict[str, Params]:
        """The models beside the policy, among them the one that the state carries."""
        if not self.moves:
            return self.beside()
        return {TEACHER: self.context.full(state.carried[TEACHER])}

    def make_update(
        self, optimizer: optax.GradientTransformation, rounding_key: Array | None
    ) -> Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]:
        """As of every family; a teacher that moves enters from the state."""
        if not self.moves:
            return super().make_update(optimizer, rounding_key)
        network, mesh = self.context.network, self.context.mesh
        described = jax.tree.map(placed, network.shapes, parameter_shardings(network, mesh))
        update = jit_train_step(
            network,
            self.loss_fn,
            optimizer,
            mesh,
            micro_batches=self.stage.batch.micro_batches,
            rounding_key=rounding_key,
            beside={TEACHER: described},
        )
        return UpdateBesideCopy(update.program, TEACHER)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Weighted loss of the tokens of a part of a batch."""
        statistics = self.statistics(*split_beside(params), batch)
        mask = per_sample(batch["mask"])
        arrays = {"logprobs": per_sample(statistics.logprobs), "mask": mask}
        if self.compares:
            arrays["teacher_divergence"] = per_sample(statistics.more[DIVERGENCE])
        loss, metrics = apply(self.token_loss, arrays)
        if self.corrects:
            arrays["behavior_logprobs"] = per_sample(batch[BEHAVIOR])
            factor, more = apply(self.stage.objective.part("correction"), arrays)
            loss, metrics = factor * loss, metrics | more
        for place, name in enumerate(self.names):
            own = mask & (self._teacher_of(batch) == place)[:, None]
            metrics[f"teacher_divergence/{name}"] = masked(arrays["teacher_divergence"], own)
        metrics["entropy"] = masked(per_sample(statistics.entropy), mask)
        metrics["token_accuracy"] = masked(per_sample(statistics.greedy), mask)
        balance, more = balance_loss(
            self.context.network.config,
            statistics.routing,
            micro_batches=self.stage.batch.micro_batches,
        )
        total = jnp.sum(per_sample(batch["weights"]) * loss)
        return total + balance, metrics | more

    def _teacher_of(self, batch: Batch) -> Array:
        """The teacher of each sample of a batch, [N] i32."""
        samples = batch["mask"].reshape(-1, batch["mask"].shape[-1]).shape[0]
        return jnp.repeat(batch[TEACHER_IDS], samples // len(batch[TEACHER_IDS]))

    def first_loss(self, batch: Rows) -> float | None:
        """Not known: the teacher is another model."""
        return None

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The completions of a step, in one update."""
        if self.moves and step > 1:
            share = self.stage.objective.values["teacher_mixup"]
            state = moved(state, TEACHER, self.move, share)
        rows, more = self.rows(experience)
        weights = np.asarray(self.weigh(per_sample(rows["mask"])), np.float32)
        batch = rows | {"weights": weights.reshape(rows["mask"].shape)}
        if self.names:
            ids = teacher_ids(self.context, self.stage, experience.records)
            batch[TEACHER_IDS] = np.repeat(ids, len(rows["mask"]) // len(ids))
        if self.corrects:
            batch[BEHAVIOR] = behavior_of(experience.samples, rows["mask"].shape)
        metrics = (
            experience.metrics
            | more
            | {END_SHARE: end_learned_share(rows, self.context.text_format.ends)}
        )
        tokens, detail = int(rows["mask"].sum()), Detail(experience.samples)
        return state, StepBatches([batch], metrics, experience.seconds, tokens, detail)

    def rows(self, experience: Experience) -> tuple[Rows, dict[str, float]]:
        """Samples or demonstrations behind their prompts, in the layout of the stage; metrics."""
        samples, shown = experience.samples, experience.demonstrations
        if samples is not None:
            prompts = samples.prompts, samples.prompt_mask
            completions = samples.rollouts.tokens, samples.rollouts.mask
        else:
            prompts = padded_prompts(self.context, experience.records)[1:]
            completions = shown.tokens[:, None], shown.mask[:, None]
        layout = functools.partial(rollout_rows, share_prompts=self.stage.batch.share_prompts)
        teacher_context = self.stage.objective.choices["teacher_context"]
        if teacher_context == "same":
            return layout(*prompts, *completions), {}
        if teacher_context in OF_SAMPLES:
            said = told_of_samples(samples, experience.scores, teacher_context)
            *told, told_one = told_samples(self.context, self.stage, samples, said)
            # What the teacher was told nothing about is not learned.
            tokens, mask = map(np.asarray, completions)
            mask = mask & told_one.reshape(mask.shape[:2])[..., None]
            theirs = completion_rows(*told, per_sample(tokens), per_sample(mask))
            return layout(*prompts, tokens, mask) | told_rows(theirs), {TOLD_SHARE: told_one.mean()}
        told = told_prompts(self.context, self.stage, experience.records)
        return layout(*prompts, *completions) | told_rows(layout(*told, *completions)), {}

    def record(self, step: int, batches: StepBatches) -> dict[str, Any] | None:
        """The step's samples with what their sampler said of each token."""
        samples = batches.detail.samples
        if samples is None:
            return None
        per_token = {"logprobs": samples.flat("logprobs")}
        return rollout_record(self.context, self.stage.name, step, samples, None, per_token)


def check_mixes(context: Context, stage: Stage) -> None:
    """Raises ValueError for a teacher whose logits cannot be mixed with those of the policy.

    Teachers are looked at once they are there, and the policy before.
    """
    if stage.objective.choices["teacher_update"] != "mixed":
        return
    roles = [role for role in role_names(stage, "teacher") if role in context.models]
    for network in (context.network, *(context.models[role].network for role in roles)):
        cap = network.config.logit_softcap
        if cap:
            raise ValueError(
                "teacher_update='mixed' mixes logits, and soft-capped ones are not mixed: "
                f"logit_softcap={cap} of the policy or a teacher "
                f"(config.{stage.name}.objective.teacher_update, config.model.logit_softcap)."
            )


def behavior_of(samples: Samples | None, shape: tuple[int, ...]) -> np.ndarray:
    """What the policy that sampled said of its tokens, at temperature 1, in the shape of a mask.

    NaN where no policy of the stage sampled: demonstrations, and what a teacher writes.

    Args:
        samples: of a step; None where there are none.
        shape: of the rows' mask.
    """
    if samples is None:
        return np.full(shape, np.nan, np.float32)
    own = samples.versions != NO_VERSION
    return np.where(own, samples.rollouts.model_logprobs, np.nan).reshape(shape).astype(np.float32)


def told_rows(rows: Rows) -> Rows:
    """The rows that the teacher reads, by their names in a batch; the mask is the policy's."""
    return {TOLD + name: array for name, array in rows.items() if name != "mask"}
