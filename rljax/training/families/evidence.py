"""Evidence stages (JEPO, arXiv:2503.19618): the likelihood of a reference answer is the reward.

A step samples chains of thought, cuts each after the answer phrase, appends the reference answer
and scores it with the policy itself. Nothing is verified while training.

Tokens that the policy wrote after the phrase are dropped before anything is computed: the format
reward depends on the phrase alone, so they carry no signal, only noise.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.tokenizers import Tokenizer
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
from rljax.rewards.references import gold_text
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.experience import Experience
from rljax.training.collect.rollout_record import rollout_record
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import SampledExperience, WholeRollouts
from rljax.training.collect.sources import shuffled_problems, stage_engine
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context
from rljax.training.run.problems import Record, checked_count
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import (
    Rows,
    lead_with_prompts,
    model_inputs,
    per_sample,
    rollout_rows,
)
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics


class Detail(NamedTuple):
    """A step's samples, kept for the report."""

    samples: Samples
    advantages: np.ndarray  # [N]
    answer_logprobs: np.ndarray  # [N]
    format_ok: np.ndarray  # [N] bool; without the phrase no answer was scored


class Evidence(Family):
    """Maximises a lower bound on log p(answer | prompt). A batch's leading axis is the prompt."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        objective = stage.objective
        self.phrase = objective.values["answer_phrase"]
        engine = context.make_engine(
            samples_per_prompt=stage.batch.samples_per_prompt,
            max_new_tokens=stage.max_new_tokens,
            token_filter=stage.token_filter,
            extra_stop_tokens=single_token(context.tokenizer, self.phrase),
        )
        key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
        self.source = SampledExperience(
            shuffled_problems(context),
            WholeRollouts(context, engine, key=key, first_step=first_step),
            prompts_per_step=stage.batch.prompts_per_step,
        )
        self.likelihood = likelihood_of(stage)
        self.score = context.jit_score(
            TokenFilter(), micro_batches=stage.batch.micro_batches, likelihood=self.likelihood
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
        """Builds the sampler; reads the first reference answers."""
        stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
        for index in range(checked_count(context.train_problems)):
            answer_ids(context, stage, {**context.train_problems[index], "id": index})

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """The evidence loss of whole groups (objectives/evidence.py)."""
        groups, network = batch["present"].shape, self.context.network
        statistics = self.likelihood(network, params, model_inputs(batch), TokenFilter())
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
        rows, format_ok, present = self._rows(samples)
        placed = put_rows(model_rows(rows), self.context.mesh)
        logprobs = to_host(self.score(self.context.full(state.params), placed))
        if self.reference is not None:
            rows["ref_logprobs"] = to_host(self.score(self.reference, placed))
        answer_logprobs = np.where(rows["answer_mask"], logprobs, 0.0).sum(axis=-1).reshape(-1)
        shape = (len(samples.records), samples.samples_per_prompt)
        advantages = to_host(self.advantages(answer_logprobs.reshape(shape), format_ok, present))
        batch = lead_with_prompts(rows, samples.samples_per_prompt) | {
            "format_ok": format_ok,
            "present": present,
            "reasoning_advantages": advantages.reasoning,
            "format_advantages": advantages.format,
            "weights": np.asarray(prompt_weights(present), np.float32),
        }
        total = (advantages.reasoning + advantages.format).reshape(-1)
        tokens = int(rows["mask"].sum())
        detail = Detail(samples, total, answer_logprobs, format_ok.reshape(-1))
        return state, StepBatches([batch], experience.metrics, experience.seconds, tokens, detail)

    def _rows(self, samples: Samples) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Rows of prompt, thought and answer (T + A slots); format_ok and present [B, G]."""
        context, stage, tokenizer = self.context, self.stage, self.context.tokenizer
        group = samples.samples_per_prompt
        answers = [answer_ids(context, stage, record) for record in samples.records]
        slots = stage.max_new_tokens + stage.data["max_answer_tokens"]
        count = len(answers) * group
        tokens = np.full((count, slots), tokenizer.pad_id, np.int32)
        thought_mask, answer_mask = np.zeros((count, slots), bool), np.zeros((count, slots), bool)
        format_ok = np.zeros(count, bool)
        for n in range(count):
            written = samples.flat("tokens")[n][samples.flat("mask")[n]]
            length = length_to_phrase(tokenizer, written, self.phrase)
            format_ok[n] = length is not None
            thought = written[:length]
            answer = answers[n // group] if format_ok[n] else []
            end = len(thought) + len(answer)
            tokens[n, :end] = [*thought, *answer]
            thought_mask[n, : len(thought)] = True
            answer_mask[n, len(thought) : end] = True
        shape = (len(answers), group, slots)
        rows = rollout_rows(
            samples.prompts,
            samples.prompt_mask,
            tokens.reshape(shape),
            (thought_mask | answer_mask).reshape(shape),
            share_prompts=stage.batch.share_prompts,
        )
        rows["thought_mask"] = thought_mask.reshape(rows["mask"].shape)
        rows["answer_mask"] = answer_mask.reshape(rows["mask"].shape)
        present = np.repeat([bool(answer) for answer in answers], group).reshape(-1, group)
        return rows, format_ok.reshape(-1, group), present

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
        values = iter(zip(detail.answer_logprobs, detail.format_ok, strict=True))
        for prompt in record["prompts"]:
            for sample in prompt["samples"]:
                logprob, format_ok = next(values)
                sample["reward"] = round(float(logprob), 6) if format_ok else None
        return record


def answer_ids(context: Context, stage: Stage, record: Record) -> list[int]:
    """Reference answer, its closing text and eos; empty where there is no answer.

    Raises:
        ValueError: if that is longer than the stage's budget.
    """
    text = gold_text(context.references([record])[0])
    if not text:
        return []
    end = stage.objective.values["answer_end"]
    (prompt,) = context.prompts([record])
    ids = [*context.tokenizer.encode_inside(text + end), prompt.end]
    budget = stage.data["max_answer_tokens"]
    if len(ids) > budget:
        raise ValueError(
            f"The reference answer of record {record['id']} has {len(ids)} tokens (closing text "
            f"and eos included), the budget is {budget} "
            f"(config.{stage.name}.data.max_answer_tokens)."
        )
    return ids


def single_token(tokenizer: Tokenizer, phrase: str) -> tuple[int, ...]:
    """The phrase as a stop token if it is one token, so that sampling ends there; else nothing."""
    ids = tokenizer.encode(phrase)
    return tuple(ids) if len(ids) == 1 else ()


def length_to_phrase(tokenizer: Tokenizer, ids: Sequence[int], phrase: str) -> int | None:
    """Tokens up to the first end of the phrase; None if it is missing.

    Also None where a token reaches over the end of the phrase: an answer appended there would
    follow text that the policy did not write.
    """
    if phrase not in tokenizer.decode(ids):
        return None
    low, high = 1, len(ids)
    while low < high:  # the phrase stays in every longer prefix
        middle = (low + high) // 2
        if phrase in tokenizer.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low if tokenizer.decode(ids[:low]).endswith(phrase) else None
