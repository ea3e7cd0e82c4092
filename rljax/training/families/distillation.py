"""Distillation stages: completions are learned as a frozen teacher would continue them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.arrays import OF_TEACHER
from rljax.objectives.metrics import masked
from rljax.objectives.parts import apply
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.experience import Experience
from rljax.training.collect.mixed import distillation_source, given_completions
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples, padded_prompts
from rljax.training.collect.sources import stage_engine
from rljax.training.collect.told_prompts import told_prompts, told_samples
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context
from rljax.training.run.problems import checked_count
from rljax.training.update.balancing import balance_loss
from rljax.training.update.beside import split_beside
from rljax.training.update.logprobs import completion_statistics
from rljax.training.update.rows import Rows, completion_rows, per_sample, rollout_rows
from rljax.training.update.sequences import END_SHARE, end_learned_share
from rljax.training.update.state import TrainState
from rljax.training.update.token_divergence import (
    DIVERGENCE,
    FrozenModel,
    compared_statistics,
    make_compare,
)
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import Batch, Metrics

# What the teacher reads, where that is more than the policy does, has names in a batch that begin
# with this.
TOLD = "told_"

# Share of the samples with another right sample, which the teacher was told.
TOLD_SHARE = "told_share"


class Detail(NamedTuple):
    """A step's samples, kept for the report; None where they are demonstrations."""

    samples: Samples | None


class Distillation(Family):
    """Brings the policy near a teacher, on the policy's own samples or on others."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage = context, stage
        objective = stage.objective
        self.compares = not OF_TEACHER.isdisjoint(objective.inputs)
        if self.compares:
            self.in_loss = ("teacher",)
            self.compare = make_compare(
                objective.part("divergence"),
                objective.part("support"),
                objective.values["teacher_temperature"],
            )
        self.token_loss = objective.bind(objective.functions["token_loss"])
        self.weigh = jax.jit(objective.part("aggregation"))
        self.source = distillation_source(context, stage, first_step)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Builds the sampler; encodes the first demonstrations, where they are read."""
        stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        if stage.objective.choices["off_policy"] == "demonstrations":
            count, problems = checked_count(context.train_problems), context.train_problems
            given_completions(context, stage, [{**problems[n], "id": n} for n in range(count)])
        if stage.objective.choices["teacher_context"] in ("demonstration", "reference"):
            count, problems = checked_count(context.train_problems), context.train_problems
            told_prompts(context, stage, [{**problems[n], "id": n} for n in range(count)])
        if stage.objective.choices["teacher_context"] != "same":
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
        teacher = FrozenModel(self.context.models["teacher"].network, beside["teacher"])
        told = {
            name.removeprefix(TOLD): array for name, array in batch.items() if name.startswith(TOLD)
        }
        rows = told | {"mask": batch["mask"]} if told else None
        return compared_statistics(network, params, teacher, batch, self.compare, other_rows=rows)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Weighted loss of the tokens of a part of a batch."""
        statistics = self.statistics(*split_beside(params), batch)
        mask = per_sample(batch["mask"])
        arrays = {"logprobs": per_sample(statistics.logprobs), "mask": mask}
        if self.compares:
            arrays["teacher_divergence"] = per_sample(statistics.more[DIVERGENCE])
        loss, metrics = apply(self.token_loss, arrays)
        metrics["entropy"] = masked(per_sample(statistics.entropy), mask)
        metrics["token_accuracy"] = masked(per_sample(statistics.greedy), mask)
        balance, more = balance_loss(
            self.context.network.config,
            statistics.routing,
            micro_batches=self.stage.batch.micro_batches,
        )
        total = jnp.sum(per_sample(batch["weights"]) * loss)
        return total + balance, metrics | more

    def first_loss(self, batch: Rows) -> float | None:
        """Not known: the teacher is another model."""
        return None

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The completions of a step, in one update."""
        rows, more = self.rows(experience)
        weights = np.asarray(self.weigh(per_sample(rows["mask"])), np.float32)
        batch = rows | {"weights": weights.reshape(rows["mask"].shape)}
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
        if teacher_context == "sample":
            right = experience.scores.correct & samples.flat("finished")
            *told, told_one = told_samples(self.context, self.stage, samples, right)
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


def told_rows(rows: Rows) -> Rows:
    """The rows that the teacher reads, by their names in a batch; the mask is the policy's."""
    return {TOLD + name: array for name, array in rows.items() if name != "mask"}
