"""More samples of prompts whose gradient varies more (objectives/variance_allocation.py).

    pilot samples ─► success rates, gradient norms ─► whole numbers ─► the step's samples

Pilot samples are thrown away: kept, they would be right more often where few were asked for.
"""

from collections.abc import Callable

import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.variance_allocation import ByVariance, sample_shares, whole_samples
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows, rows_divisor
from rljax.rewards.pool import Scores
from rljax.training.collect.experience import Annotations, Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import Samples, join_scores
from rljax.training.collect.successive import Allocated, filled
from rljax.training.learner.embedding_gradients import make_embedding_gradient_norms
from rljax.training.run.context import Context
from rljax.training.update.rows import completion_rows


class SampledByVariance:
    """Draws the samples of a step after a few pilot samples of each prompt."""

    def __init__(
        self,
        stage: Stage,
        pilot: Callable[..., Samples],
        single: Callable[..., Samples],
        scored: Callable[[Samples], tuple[Scores, float]],
        norms: Callable[[Params, Samples, np.ndarray], np.ndarray],
    ) -> None:
        """Binds samplers and rewards.

        Args:
            stage: with allocation="by_variance".
            pilot: `WholeRollouts.sample` of a sampler with so many samples as the pilot has.
            single: the same with one sample of each prompt that is asked for.
            scored: samples to their scores and the seconds that they took.
            norms: `GradientNorms`.
        """
        self.plan: ByVariance = stage.objective.part("allocation")()
        self.budget = stage.batch.sequences_per_step
        self.pilot, self.single, self.scored, self.norms = pilot, single, scored, norms

    def draw(self, weights: Params, policy: Policy, prompts: Prompts, step: int) -> Allocated:
        """The samples of a step, N prompts of one sample each in the order of the B prompts."""
        count = len(prompts.records)
        pilot = self.pilot(weights, policy, prompts, step=step, most_prompts=self.budget)
        pilot_scores, pilot_seconds = self.scored(pilot)
        success, slopes = self._estimates(policy.params, pilot, pilot_scores)
        shares = sample_shares(success, slopes, self.budget, self.plan)
        counts = np.asarray(whole_samples(shares, self.budget))
        place = np.repeat(np.arange(count), counts)
        asked = Prompts([prompts.records[i] for i in place], prompts.visits[place])
        samples = self.single(weights, policy, asked, step=step, call=1, most_prompts=self.budget)
        scores, seconds = self.scored(samples)
        drawn = pilot.rollouts.mask.sum() + samples.rollouts.mask.sum()
        metrics = {
            "sampled_tokens": float(drawn),
            "samples_per_prompt_mean": self.plan.pilot_samples + self.budget / count,
            "samples_per_prompt_max": float(counts.max()),
            "allocation_share": float((counts > 0).mean()),
        }
        arrays = {"group_ids": place.astype(np.int32)}
        return Allocated(
            samples=samples._replace(seconds=samples.seconds + pilot.seconds),
            scores=scores,
            annotations=Annotations(arrays, metrics, {"scoring": seconds + pilot_seconds}),
            scored=join_scores([pilot_scores, scores]),
        )

    def _estimates(
        self, params: Params, pilot: Samples, scores: Scores
    ) -> tuple[np.ndarray, np.ndarray]:
        """Success rate, and mean gradient norm of the right samples, of each prompt [B]."""
        shape = len(pilot.records), pilot.samples_per_prompt
        present = ~scores.left_out.reshape(shape)
        right = scores.correct.reshape(shape) & present
        success = right.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        slopes = np.zeros(right.size)
        rows = np.flatnonzero(right.reshape(-1))
        if len(rows):
            slopes[rows] = self.norms(params, pilot, rows)
        return success, slopes.reshape(shape).sum(axis=1) / np.maximum(right.sum(axis=1), 1)


def check_noise(problems: int, stage: Stage) -> None:
    """Raises ValueError where repeats of one problem might share the noise of another."""
    rows = stage.batch.sequences_per_step
    if 2 * problems * rows > 2**31:
        raise ValueError(
            f"allocation='by_variance' may draw any of {problems} problems {rows} times in a step, "
            "and twice as many addresses of noise are more than 2**31: take fewer problems or "
            f"samples (config.{stage.name}.batch.prompts_per_step, samples_per_prompt)."
        )


class GradientNorms:
    """Gradient norms of some samples by the embedding, under the trainer's policy."""

    def __init__(self, context: Context, stage: Stage) -> None:
        """Prepares the program; it is compiled for few numbers of rows (`filled`)."""
        self.mesh, self.divisor = context.mesh, rows_divisor(context.mesh)
        micro_batch, divisor = stage.batch.sequences_per_micro_batch, self.divisor
        self.compute = context.jit_with_params(
            lambda network: make_embedding_gradient_norms(
                network, stage.token_filter, micro_batch=micro_batch, divisor=divisor
            ),
            batch_sharding(context.mesh),
        )

    def __call__(self, params: Params, samples: Samples, rows: np.ndarray) -> np.ndarray:
        """[R] f32 of the samples with these numbers; `params` are all of the policy's."""
        most = len(samples.texts)
        asked = filled(rows, most, self.divisor)
        prompt = asked // samples.samples_per_prompt
        arrays = completion_rows(
            samples.prompts[prompt],
            samples.prompt_mask[prompt],
            samples.flat("tokens")[asked],
            samples.flat("mask")[asked],
        )
        found: Array = self.compute(params, put_rows(arrays, self.mesh))
        return to_host(found)[: len(rows)]
