"""Evidence stages (JEPO, arXiv:2503.19618): the likelihood of a reference answer is the reward.

A step samples chains of thought, cuts each after the answer phrase, appends the reference answer
and scores it with the policy itself. Nothing is verified while training, unless the objective says
verifier='switch': then a prompt with a right sample is learned from the verifier instead.

Tokens that the policy wrote after the phrase are dropped before anything is computed: the format
reward depends on the phrase alone, so they carry no signal, only noise. Those of prompts that are
learned from a verifier are kept, as it reads them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.evidence import (
    EvidenceAdvantages,
    evidence_advantages,
    evidence_loss,
    prompt_weights,
)
from rljax.objectives.kl import k3
from rljax.objectives.metrics import masked
from rljax.objectives.parts import fields_of
from rljax.objectives.sequences import sequence_logprobs
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.curriculum import check_problems, prompt_source
from rljax.training.collect.experience import Experience
from rljax.training.collect.reference_answers import (
    Answered,
    answered_rows,
    check_answers,
    form_of,
    single_token,
)
from rljax.training.collect.rewards import make_reward
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples, require_rewards
from rljax.training.collect.sampled import SampledExperience, WholeRollouts
from rljax.training.collect.sources import stage_engine
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows, lead_with_prompts, model_inputs, per_sample
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics


class Detail(NamedTuple):
    """A step's samples, kept for the report."""

    samples: Samples
    advantages: np.ndarray  # [N]
    answer_logprobs: np.ndarray  # [N]
    scored: np.ndarray  # [N] bool; without the phrase no answer was scored


class Evidence(Family):
    """Maximises a lower bound on log p(answer | prompt). A batch's leading axis is the prompt."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        objective = stage.objective
        self.verified = objective.choices["verifier"] == "switch"
        phrase = single_token(context.tokenizer, objective.values["answer_phrase"])
        engine = context.make_engine(
            samples_per_prompt=stage.batch.samples_per_prompt,
            max_new_tokens=stage.max_new_tokens,
            token_filter=stage.token_filter,
            # A verifier reads the answers that are written after the phrase.
            extra_stop_tokens=() if self.verified else phrase,
        )
        key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
        self.source = SampledExperience(
            prompt_source(context, stage, first_step),
            WholeRollouts(context, engine, key=key, first_step=first_step),
            prompts_per_step=stage.batch.prompts_per_step,
            reward=make_reward(context, stage) if self.verified else None,
        )
        self.likelihood = likelihood_of(stage)
        self.score = context.jit_score(
            stage.token_filter, micro_batches=stage.batch.micro_batches, likelihood=self.likelihood
        )
        self.bound = objective.part("bound")
        settings = fields_of(evidence_advantages, leave_out=("bound",))
        self.advantages = jax.jit(
            functools.partial(
                evidence_advantages,
                bound=self.bound,
                **{name: objective.values[name] for name in settings},
            )
        )

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Builds the sampler; reads the first reference answers, and what a curriculum reads."""
        stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        check_problems(context, stage)
        check_answers(context, form_of(stage), context.train_problems)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The evidence loss of whole groups (objectives/evidence.py)."""
        groups, network = batch["present"].shape, self.context.network
        token_filter = self.stage.token_filter  # what thoughts were sampled from, answers too
        statistics = self.likelihood(network, params, model_inputs(batch), token_filter)
        logprobs, entropy = per_sample(statistics.logprobs), per_sample(statistics.entropy)
        thought, answer = per_sample(batch["thought_mask"]), per_sample(batch["answer_mask"])
        answer_logprobs = sequence_logprobs(logprobs, answer).reshape(groups)
        ref_logprobs = per_sample(batch["ref_logprobs"]) if "ref_logprobs" in batch else None
        values = self.stage.objective.values
        kl = self.stage.objective.kl
        loss, metrics = evidence_loss(
            logprobs,
            None if kl is None else ref_logprobs,
            thought,
            thought,
            answer_logprobs,
            EvidenceAdvantages(batch["reasoning_advantages"], batch["format_advantages"]),
            batch["format_ok"],
            batch["present"],
            batch.get("solved"),
            bound=self.bound,
            supervised_weight=values["supervised_weight"],
            kl=kl,
            kl_weight=values.get("kl_weight", 0.0),
        )
        metrics["entropy"] = masked(entropy, thought)
        if ref_logprobs is not None:
            metrics["kl_to_start"] = masked(k3(logprobs, ref_logprobs, thought), thought)
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """Scores the reference answers after the chains of thought."""
        samples = experience.samples
        judged = self._judged(experience)
        rows, format_ok, present = self._answered(samples, judged.get("solved"))
        told = self._thoughts(samples, rows, format_ok & present)
        metrics = dict(experience.metrics)
        if told:
            metrics["think_share"] = float(told["thinks"][present].mean()) if present.any() else 0.0
        placed = put_rows(model_rows(rows), self.context.mesh)
        logprobs = to_host(self.score(self.context.full(state.params), placed))
        if self.reference is not None:
            rows["ref_logprobs"] = to_host(self.score(self.reference, placed))
        answer_logprobs = np.where(rows["answer_mask"], logprobs, 0.0).sum(axis=-1).reshape(-1)
        shape = (len(samples.records), samples.samples_per_prompt)
        scored = answer_logprobs.reshape(shape), format_ok, present
        advantages = self.advantages(*scored, **judged, **told)
        advantages = to_host(advantages)
        batch = lead_with_prompts(rows, samples.samples_per_prompt) | {
            "format_ok": format_ok,
            "present": present,
            "reasoning_advantages": advantages.reasoning,
            "format_advantages": advantages.format,
            "weights": np.asarray(prompt_weights(present), np.float32),
        }
        if self.verified:
            batch["solved"] = judged["solved"]
        total = (advantages.reasoning + advantages.format).reshape(-1)
        tokens = int(rows["mask"].sum())
        has_answer = rows["answer_mask"].any(axis=-1).reshape(-1)
        detail = Detail(samples, total, answer_logprobs, has_answer)
        return state, StepBatches([batch], metrics, experience.seconds, tokens, detail)

    def _judged(self, experience: Experience) -> Rows:
        """With a verifier: rewards [B, G] f32, and solved [B] bool, prompts with a right sample."""
        if not self.verified:
            return {}
        scores, shape = experience.scores, (len(experience.samples.records), -1)
        require_rewards(scores, f"verifier='switch' of {self.stage.objective.method.name!r}")
        solved = (scores.judged & scores.correct).reshape(shape).any(axis=-1)
        return {"rewards": scores.total.reshape(shape).astype(np.float32), "solved": solved}

    def _thoughts(self, samples: Samples, rows: Rows, counted: np.ndarray) -> Rows:
        """`thinks` [B, G] bool, samples with something before the phrase, where that has a cost.

        The text decides and not the number of tokens: one may hold the thought and the phrase.

        Args:
            samples: B prompts, G samples each.
            rows: of `answered_rows`.
            counted: [B, G] bool, samples with the phrase, and with an answer to give behind it.
        """
        values, tokenizer = self.stage.objective.values, self.context.tokenizer
        if not values["thought_cost"]:
            return {}
        lengths = rows["thought_mask"].sum(axis=-1).reshape(-1)
        written = zip(samples.flat("tokens"), samples.flat("mask"), lengths, strict=True)
        texts = [tokenizer.decode(row[kept][:length]) for row, kept, length in written]
        thinks = np.array([text != values["answer_phrase"] for text in texts])
        return {"thinks": counted & thinks.reshape(counted.shape)}

    def _answered(self, samples: Samples, solved: np.ndarray | None) -> Answered:
        """Rows of T + A slots; those of solved prompts are the samples as they were written."""
        return answered_rows(
            self.context,
            form_of(self.stage),
            samples,
            slots=self.stage.max_new_tokens + self.stage.data["max_answer_tokens"],
            share_prompts=self.stage.batch.share_prompts,
            whole=solved,
        )

    def record(self, step: int, batches: StepBatches) -> dict[str, Any]:
        """The step's chains of thought; the reward shown is the log-likelihood of the answer."""
        detail: Detail = batches.detail
        samples = detail.samples
        shape = samples.flat("mask").shape
        record = rollout_record(
            self.context,
            self.stage.name,
            step,
            samples,
            None,
            {
                "logprobs": samples.flat("logprobs"),
                "advantage": np.broadcast_to(detail.advantages[:, None], shape),
            },
        )
        values = iter(zip(detail.answer_logprobs, detail.scored, strict=True))
        for prompt in record["prompts"]:
            for sample in prompt["samples"]:
                logprob, scored = next(values)
                sample["reward"] = round(float(logprob), 6) if scored else None
        return record
