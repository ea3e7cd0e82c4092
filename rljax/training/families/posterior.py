"""Posterior stages (TRICE, arXiv:2312.02179): right samples are learned, weighed per prompt.

A step without any right sample makes no update at all: a gradient of zero would still move a
policy whose optimizer has momentum or weight decay. Nor does one whose weights all cancel, as where
every proposal is accepted and leave-one-out takes all of them off.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.metrics import masked
from rljax.objectives.posterior import chain_weights, net_weights, posterior_loss
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.chains import ChainExperience, is_right
from rljax.training.collect.curriculum import check_problems, prompt_source
from rljax.training.collect.experience import Experience
from rljax.training.collect.hinted import check_hints
from rljax.training.collect.rewards import make_reward
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import SampledExperience, WholeRollouts
from rljax.training.collect.sources import stage_engine
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.rows import lead_with_prompts, model_inputs, per_sample, rollout_rows
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics


class Detail(NamedTuple):
    """A step's fresh samples, kept for the report."""

    experience: Experience
    weights: np.ndarray  # [M, G] f32, of the fresh samples


class Posterior(Family):
    """Maximises log p(right answer | prompt). A batch's leading axis is the prompt.

    Rows of a prompt are its fresh samples; of a chain, its new state and the fresh sample.
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage = context, stage
        self.chained = stage.objective.choices["posterior"] == "chain"
        self.likelihood = likelihood_of(stage)
        engine = stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
        rollouts = WholeRollouts(context, engine, key=key, first_step=first_step)
        prompts = prompt_source(context, stage, first_step)
        reward = make_reward(context, stage)
        if self.chained:
            self.source = ChainExperience(context, stage, prompts, rollouts, reward)
        else:
            count = stage.batch.prompts_per_step
            self.source = SampledExperience(
                prompts, rollouts, prompts_per_step=count, reward=reward
            )

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Builds the sampler; encodes the first hinted prompts, where chains begin with them."""
        stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        check_problems(context, stage)
        prompts, problems = stage.batch.prompts_per_step, len(context.train_problems)
        if stage.objective.choices["posterior"] == "chain" and prompts > problems:
            raise ValueError(
                f"prompts_per_step={prompts} visits a chain twice in a step: there are {problems} "
                f"problems, and as many chains (config.{stage.name}.batch.prompts_per_step)."
            )
        if stage.objective.choices["guide"] == "hinted":
            pattern = stage.objective.values["context_pattern"]
            field = f"config.{stage.name}.objective.context_pattern"
            check_hints(context, stage, pattern, field)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Weighted log-probability of whole completions (objectives/posterior.py)."""
        network = self.context.network
        token_filter = self.stage.token_filter  # of the samples
        statistics = self.likelihood(network, params, model_inputs(batch), token_filter)
        mask = per_sample(batch["mask"])
        logprobs = per_sample(statistics.logprobs)
        loss, metrics = posterior_loss(logprobs, mask, batch["weights"].reshape(-1))
        metrics["entropy"] = masked(per_sample(statistics.entropy), mask)
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return loss + balance, metrics | balance_metrics

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """One update of the step's rows; none where nothing is learned."""
        samples, arrays = experience.samples, experience.arrays
        tokens, mask = samples.rollouts.tokens, samples.rollouts.mask
        if self.chained:
            tokens = np.stack([arrays["memory_tokens"], tokens[:, 0]], axis=1)
            mask = np.stack([arrays["memory_mask"], mask[:, 0]], axis=1)
        weights = self._weights(experience)
        rows = rollout_rows(
            samples.prompts,
            samples.prompt_mask,
            np.asarray(tokens),
            np.asarray(mask),
            share_prompts=self.stage.batch.share_prompts,
        )
        batch = lead_with_prompts(rows, self.stage.batch.rows_per_prompt) | {"weights": weights}
        learned = bool(weights.any())
        return state, StepBatches(
            [batch] if learned else [],
            experience.metrics | {"updates_without_right": float(not learned)},
            experience.seconds,
            int(np.asarray(mask)[weights != 0].sum()),
            Detail(experience, self._of_samples(weights, experience)),
        )

    def _weights(self, experience: Experience) -> np.ndarray:
        """[M, R] f32, of the rows of each prompt."""
        part = self.stage.objective.part
        if self.chained:
            right = experience.arrays["memory_right"], experience.arrays["proposal_right"]
            share = part("control_variate")(*right)
            weights = net_weights(chain_weights(right[0], share), right[1])
            return np.asarray(weights, np.float32)
        right = is_right(experience.samples, experience.scores)
        shape = (len(experience.records), -1)
        return np.asarray(part("posterior")(jax.numpy.asarray(right.reshape(shape))), np.float32)

    def _of_samples(self, weights: np.ndarray, experience: Experience) -> np.ndarray:
        """[M, G] f32, of the fresh samples; an accepted one is learned as its chain's state."""
        if not self.chained:
            return weights
        accepted = experience.arrays["proposal_right"]
        return np.where(accepted, weights[:, 0], weights[:, 1])[:, None]

    def record(self, step: int, batches: StepBatches) -> dict[str, Any]:
        """The step's fresh samples; the advantage shown is the weight that each has."""
        detail: Detail = batches.detail
        samples: Samples = detail.experience.samples
        weights = detail.weights.reshape(-1, 1)
        return rollout_record(
            self.context,
            self.stage.name,
            step,
            samples,
            detail.experience.scores,
            {
                "logprobs": samples.flat("logprobs"),
                "advantage": np.broadcast_to(weights, samples.flat("mask").shape),
            },
        )
