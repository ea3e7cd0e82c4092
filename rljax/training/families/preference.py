"""Preference stages: pairs (prompt, chosen, rejected) from disk, a frozen reference policy."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.encode import encode_completions, encode_prompts
from rljax.data.sources import open_source
from rljax.models.network import Params
from rljax.objectives.metrics import masked
from rljax.objectives.preference import preference_loss
from rljax.objectives.sequences import sequence_logprobs
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.experience import Experience, RecordsFromDisk
from rljax.training.collect.pairs import sample_pairs
from rljax.training.collect.prompts import ShuffledPrompts
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context, Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.logprobs import completion_statistics, model_rows
from rljax.training.update.rows import (
    Rows,
    lead_with_prompts,
    model_inputs,
    per_sample,
    rollout_rows,
)
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics


class Preference(Family):
    """DPO and its relatives. The leading axis of a batch is the pair; sample 0 of it is chosen."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        source, path = stage.data["source"], stage.data["path"]
        if source == "sampled_pairs":
            source, path = "jsonl", sample_pairs(context, stage, reference)
        pairs = ShuffledPrompts(open_pairs(stage, source, path), seed=context.config.seed)
        self.source = RecordsFromDisk(pairs, stage.batch.sequences_per_update // 2)
        self.score = context.jit_score(TokenFilter(), micro_batches=stage.batch.micro_batches)
        objective = stage.objective
        link = objective.part("link")
        fields = {name: value for name, value in link.keywords.items() if name != "beta"}
        self.loss = functools.partial(
            preference_loss,
            score=objective.part("score"),
            link=functools.partial(link.func, **fields),
            beta=objective.values["beta"],
        )

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Encodes every pair of a file once."""
        if stage.data["source"] == "sampled_pairs":
            return
        records = open_pairs(stage, stage.data["source"], stage.data["path"])
        for index in range(len(records)):
            pair_rows(context, stage, [{**records[index], "id": index}])

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Mean over the pairs of the whole batch (objectives/preference.py)."""
        network, mask = self.context.network, batch["mask"]
        statistics = completion_statistics(network, params, model_inputs(batch), TokenFilter())
        sums = sequence_logprobs(per_sample(statistics.logprobs), per_sample(mask)).reshape(-1, 2)
        reference = batch["ref_sums"]
        loss, metrics = self.loss(sums[:, 0], sums[:, 1], reference[:, 0], reference[:, 1])
        chosen = mask & jnp.array([True, False])[:, None]
        metrics["token_accuracy"] = masked(statistics.greedy.reshape(mask.shape), chosen)
        metrics["entropy"] = masked(statistics.entropy.reshape(mask.shape), mask)
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The pairs of one update, with their log-probabilities under the reference."""
        rows = pair_rows(self.context, self.stage, experience.records)
        placed = put_rows(model_rows(rows), self.context.mesh)
        ref_logprobs = jax.device_get(self.score(self.reference, placed))
        tokens = int(rows["mask"].sum())
        batch = lead_with_prompts(rows, 2)
        batch["ref_sums"] = np.where(rows["mask"], ref_logprobs, 0.0).sum(axis=-1).reshape(-1, 2)
        # A pair with an empty side says nothing about the other: it is not counted.
        usable = rows["mask"].any(axis=-1).reshape(-1, 2).all(axis=1)
        batch["weights"] = (usable / max(usable.sum(), 1)).astype(np.float32)
        return state, StepBatches([batch], {}, {}, tokens)


def open_pairs(stage: Stage, kind: str, path: str | Path) -> Sequence[Record]:
    """The file of a stage's pairs."""
    return open_source(
        kind,
        path=path,
        chat_columns=("prompt",),
        text_columns=("chosen", "rejected"),
        path_field=f"config.{stage.name}.data.path",
    )


def pair_rows(context: Context, stage: Stage, records: Sequence[Record]) -> Rows:
    """Pairs as rows: chosen and rejected of a pair in one row, or in two next to each other."""
    ids = [record["id"] for record in records]
    prompts, prompt_mask = encode_prompts(
        context.prompt_texts(records, column="prompt"),
        context.tokenizer,
        max_prompt_tokens=context.config.data.max_prompt_tokens,
        ids=ids,
        add_bos=context.config.tokenizer.add_bos,
    )
    texts = [record[side] for record in records for side in ("chosen", "rejected")]
    completions, mask = encode_completions(
        texts,
        context.tokenizer,
        max_new_tokens=stage.data["max_completion_tokens"],
        ids=np.repeat(ids, 2).tolist(),
        field=f"config.{stage.name}.data.max_completion_tokens",
    )
    shape = (len(prompts), 2, -1)
    return rollout_rows(
        prompts,
        prompt_mask,
        completions.reshape(shape),
        mask.reshape(shape),
        share_prompts=stage.batch.share_prompts,
    )
