"""Stages of labelled completions: KTO and its relatives.

What the loss of a completion knows of others is found here, over the whole batch and before the
update: KTO's estimate of the KL, from each prompt with the completion of the row before, that of a
step, from the steps of these, and BCO's mean of all rewards so far, which is carried from step to
step. TRL makes KTO's mismatched pairs
from what one device holds; here they are of the whole batch.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.feedback import Labelled, Stepwise
from rljax.models.network import Params
from rljax.objectives.arrays import UNPAIRED_ARRAYS
from rljax.objectives.metrics import masked
from rljax.objectives.unpaired import kl_estimate, running_mean, step_sums, unpaired_loss
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows, replicated
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.experience import Experience
from rljax.training.collect.labelled import (
    LabelledSource,
    kept_labelled,
    open_labelled,
    samples_labels,
)
from rljax.training.collect.reference_cache import check_named_cache, reference_cache
from rljax.training.collect.round_prompts import check_round_prompts
from rljax.training.collect.stage_rows import checked_rows, rows_of_step
from rljax.training.families import Family, StepBatches
from rljax.training.families.labelled_rows import completions_of, rows_of
from rljax.training.run.context import Context, Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import draws, likelihood_of, likelihood_rows
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows
from rljax.training.update.sequences import END_SHARE, end_learned_share
from rljax.training.update.state import Carried, TrainState
from rljax.training.update.token_statistics import token_arrays
from rljax.training.update.train_step import Batch, Metrics

# Sum and number of all rewards so far.
RUNNING = ("reward_total", "reward_count")


class Unpaired(Family):
    """KTO and its relatives. The leading axis of a batch is the completion."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        self.first_step = first_step  # masks are drawn by run, not by stage
        self.objective, self.kind = stage.objective, rows_of(stage)
        records = () if samples_labels(stage) else kept_labelled(context, stage, self.kind.read)
        # What the stage starts from samples first; a reference of its own is another model.
        start = None if "reference" in stage.models else reference
        self.source = LabelledSource(context, stage, start, records)
        self.likelihood = likelihood_of(stage)
        self.score = context.jit_score(
            TokenFilter(), micro_batches=stage.batch.micro_batches, likelihood=self.likelihood
        )
        self.loss = functools.partial(
            unpaired_loss, link=self.objective.part("link"), beta=self.objective.values["beta"]
        )
        self.cache = None
        if stage.data.get("reference_cache"):
            size = stage.batch.sequences_per_update
            self.cache = reference_cache(
                context, stage, reference, records, self.kind.read, self._said, size
            )

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Reads every completion of the file once."""
        if samples_labels(stage):
            check_round_prompts(context, stage)
            return
        read = rows_of(stage).read
        kept = checked_rows(context, stage, open_labelled(stage, read), read)
        if stage.data["reference_cache"]:
            check_named_cache(context, stage, kept, read)

    @staticmethod
    def carried(context: Context, stage: Stage) -> Carried:
        """The running mean of rewards, where the loss reads one."""
        if "reward_shift" not in stage.objective.inputs:
            return Carried()
        whole = replicated(context.mesh)
        return Carried(
            lambda params: {name: jnp.zeros(()) for name in RUNNING}, dict.fromkeys(RUNNING, whole)
        )

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Mean over the completions of the whole batch (objectives/unpaired/)."""
        network = self.context.network
        statistics = self.likelihood(network, params, model_rows(batch), TokenFilter())
        arrays = {name: array for name, array in batch.items() if name in UNPAIRED_ARRAYS}
        said = token_arrays(statistics).items()
        arrays |= {name: array for name, array in said if name in UNPAIRED_ARRAYS}
        loss, metrics = self.loss(arrays)
        metrics["token_accuracy"] = masked(
            arrays["greedy"], batch["mask"] & batch["labels"][:, None]
        )
        metrics["entropy"] = masked(arrays["entropy"], batch["mask"])
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The completions of one update, with what the reference says of them."""
        read = rows_of_step(self.context, self.stage, experience.records, self.kind.read)
        keys = self._keys(experience.records, self.first_step + step)
        rows = completions_of(self.context, self.stage, read) | keys
        mask = rows["mask"]
        present = mask.any(axis=-1)
        batch = rows | self.kind.targets(read, present[:, None])
        batch |= self.cache.of(experience.records) if self.cache else self._reference_arrays(rows)
        batch["weights"] = (present / max(present.sum(), 1)).astype(np.float32)
        state, numbers = self._of_batch(state, batch, read, keys)
        batch |= {name: np.full(len(mask), value, np.float32) for name, value in numbers.items()}
        metrics = {END_SHARE: end_learned_share(rows, self.context.text_format.ends)}
        logged = experience.metrics | metrics | numbers
        return state, StepBatches([batch], logged, {}, int(mask.sum()))

    def _keys(self, records: Sequence[Record], step: int) -> Rows:
        """Where masks are drawn, the keys of the completions; policy and reference share them."""
        if not draws(self.stage):
            return {}
        ids = np.array([record["id"] for record in records])
        return likelihood_rows(self.context.config.seed, step, ids, np.zeros_like(ids))

    def _of_batch(
        self, state: TrainState, batch: Rows, read: list[Labelled] | list[Stepwise], keys: Rows
    ) -> tuple[TrainState, dict[str, float]]:
        """What the link reads of the whole batch, and the state with its new running mean."""
        inputs, params = self.objective.inputs, self.context.full(state.params)
        numbers = {}
        if "kl_baseline" in inputs:
            before = [read[index - 1].completion for index in range(len(read))]
            others = [each._replace(completion=ids) for each, ids in zip(read, before, strict=True)]
            rows = completions_of(self.context, self.stage, others) | keys
            ratios = self.logprobs(params, rows) - self.logprobs(self.reference, rows)
            present = rows["mask"].any(axis=-1)
            numbers["kl_baseline"] = float(kl_estimate(ratios.sum(axis=-1), present))
            if "step_baseline" in inputs:
                mismatched = numbers["kl_baseline"]
                numbers["step_baseline"] = self._step_baseline(batch, ratios, mismatched)
        if "reward_shift" in inputs:
            ratios = self.sums(params, batch) - batch["ref_sequence_logprobs"]
            rewards = self.objective.values["beta"] * ratios
            before = to_host([state.carried[name] for name in RUNNING])
            *after, shift = running_mean(*before, rewards, batch["mask"].any(axis=-1))
            whole = replicated(self.context.mesh)
            placed = {
                name: jax.device_put(np.asarray(value, np.float32), whole)
                for name, value in zip(RUNNING, after, strict=True)
            }
            state = state.replace(carried=state.carried | placed)
            numbers["reward_shift"] = float(shift)
        return state, numbers

    def first_loss(self, batch: Rows) -> float | None:
        """The loss with the reference's own log-probabilities: 1/2 for KTO, ln 2 for BCO, say."""
        if self.context.network.config.experts:
            return None
        mask = batch["mask"]
        arrays = {name: array for name, array in batch.items() if name in UNPAIRED_ARRAYS}
        each = batch["ref_sequence_logprobs"] / np.maximum(mask.sum(axis=-1), 1)
        spread = np.where(mask, each[:, None], 0.0).astype(np.float32)
        arrays["logprobs"] = arrays.get("ref_logprobs", spread)
        loss, _ = self.loss(arrays)
        return float(np.sum(batch["weights"] * np.asarray(loss)))

    def _said(self, records: Sequence[Record]) -> Rows:
        """What the reference says of the records of an update."""
        read = rows_of_step(self.context, self.stage, records, self.kind.read)
        return self._reference_arrays(completions_of(self.context, self.stage, read))

    def _reference_arrays(self, rows: Rows) -> Rows:
        logprobs = self.logprobs(self.reference, rows)
        arrays = {"ref_sequence_logprobs": logprobs.sum(axis=-1)}
        if "ref_logprobs" in self.objective.inputs:
            arrays["ref_logprobs"] = logprobs
        return arrays

    def _step_baseline(self, batch: Rows, mismatched: np.ndarray, kl_baseline: float) -> float:
        """The reference point of steps, by `step_baseline_from`.

        Args:
            batch: of the update.
            mismatched: [N, T] f32, log-ratios of the completion of the row before, behind the
                prompt of each row.
            kl_baseline: the reference point of completions.
        """
        step_ids, there = batch["step_ids"], batch["step_ids"] >= 0
        count = (step_ids.max(axis=-1) + 1)[:, None]
        steps = np.arange(step_ids.shape[1]) < count
        match self.objective.values["step_baseline_from"]:
            case "mismatched":
                of_others = step_sums(mismatched, np.roll(step_ids, 1, axis=0))
                return float(kl_estimate(of_others, np.roll(steps, 1, axis=0)))
            case "by_length":
                step = there.sum() / max(steps.sum(), 1)
                whole = batch["mask"].sum() / max(batch["mask"].any(axis=-1).sum(), 1)
                return float(kl_baseline * step / max(whole, 1))
            case _:
                return 0.0

    def sums(self, params: Params, rows: Rows) -> np.ndarray:
        """Log-probabilities [N] f32 of whole completions, on the host."""
        return self.logprobs(params, rows).sum(axis=-1)

    def logprobs(self, params: Params, rows: Rows) -> np.ndarray:
        """Log-probabilities [N, T] f32 of the tokens of completions, on the host; 0 elsewhere."""
        logprobs = to_host(self.score(params, put_rows(model_rows(rows), self.context.mesh)))
        return np.where(rows["mask"], logprobs, 0.0).astype(np.float32)
