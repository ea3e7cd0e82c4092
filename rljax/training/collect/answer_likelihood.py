"""Scores of samples by the likelihood that the policy gives to the reference answer behind them."""

import time

import numpy as np

from rljax.config.stage import Stage
from rljax.objectives.answer_rewards import with_missing
from rljax.objectives.parts import apply
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.training.collect.experience import Annotations
from rljax.training.collect.reference_answers import (
    Answered,
    answered_rows,
    empty_answer,
    form_of,
    named_reward,
    without_thoughts,
)
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import Drawn
from rljax.training.run.context import Context
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows, per_sample


class AnswerLikelihood:
    """Annotates samples with `scores` in place of the verifier's (objectives/answer_rewards.py).

    The answer is scored by the trainer's policy at temperature 1, behind the sample cut after the
    answer phrase. What the verifier says stays in the metrics. A sample without the phrase has the
    score of the field `missing_phrase_reward`, or the lowest of its group if that is lower.
    """

    def __init__(self, context: Context, stage: Stage) -> None:
        """Builds the scoring pass; nothing is compiled yet."""
        self.context, self.stage = context, stage
        self.reward = stage.objective.part("answer_reward")
        batch = stage.batch
        self.score = context.jit_score(
            stage.token_filter.of_text,
            micro_batches=batch.sequences_per_step // batch.sequences_per_micro_batch,
            likelihood=likelihood_of(stage),
        )

    def __call__(self, drawn: Drawn) -> Annotations:
        """`scores` [N] f32.

        Raises:
            ValueError: for a prompt whose reference answer is empty.
        """
        started = time.perf_counter()
        answered, arrays = self._scored(drawn, drawn.samples)
        if not answered.present.all():
            empty = int(np.argmin(answered.present.all(axis=-1)))
            raise empty_answer(drawn.samples.records[empty]["id"], named_reward(self.stage))
        if "bare_answer_logprobs" in self.stage.objective.inputs:
            bare = without_thoughts(self.context, form_of(self.stage), drawn.samples)
            without = self._scored(drawn, bare)[1]
            arrays |= {f"bare_{name}": array for name, array in without.items()}
        rewards = np.asarray(apply(self.reward, arrays)).reshape(answered.format_ok.shape)
        missing = self.stage.objective.values["missing_phrase_reward"]
        scores = np.asarray(with_missing(rewards, answered.format_ok, missing_reward=missing))
        scores, format_ok = scores.reshape(-1), answered.format_ok.reshape(-1)
        metrics = {"answer_reward": float(scores.mean()), "format_share": float(format_ok.mean())}
        if format_ok.any():
            totals = arrays["answer_logprobs"].sum(axis=-1)
            metrics["answer_logprob"] = float(totals[format_ok].mean())
        seconds = {"scoring": time.perf_counter() - started}
        return Annotations({"scores": scores.astype(np.float32)}, metrics, seconds)

    def _scored(self, drawn: Drawn, samples: Samples) -> tuple[Answered, Rows]:
        """Rows of samples with the answers behind them; its log-probabilities and mask, [N, T]."""
        answered = answered_rows(
            self.context,
            form_of(self.stage),
            samples,
            slots=self.stage.max_new_tokens + self.stage.data["max_answer_tokens"],
            share_prompts=self.stage.batch.share_prompts,
        )
        placed = put_rows(model_rows(answered.rows), self.context.mesh)
        mask = per_sample(answered.rows["answer_mask"])
        logprobs = per_sample(to_host(self.score(drawn.policy.params, placed)))
        return answered, {"answer_logprobs": np.where(mask, logprobs, 0.0), "answer_mask": mask}
