"""Preference stages: pairs (prompt, chosen, rejected) from disk.

A frozen reference policy is there where the objective's parts name its log-probabilities.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.encode import encode_completions, encode_prompts
from rljax.data.sources import open_source, records_for_step, stream
from rljax.models.network import Params
from rljax.objectives.arrays import PREFERENCE_ARRAYS
from rljax.objectives.metrics import masked
from rljax.objectives.parts import fields_of
from rljax.objectives.preference import METRICS, preference_loss
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.pairs import pairs_file, sample_pairs
from rljax.training.families import Experience, Family
from rljax.training.run.context import Context, Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows, lead_with_prompts, model_inputs, rollout_rows
from rljax.training.update.state import TrainState
from rljax.training.update.token_statistics import token_arrays
from rljax.training.update.train_step import Batch, Metrics

# Columns of a record, in the order of the sides; the first one is preferred.
SIDES = ("chosen", "rejected")


class Preference(Family):
    """DPO and its relatives. The leading axis of a batch is the pair; side 0 of it is chosen.

    What the loss reads of a batch is there by name (`PREFERENCE_ARRAYS`), with the axes [B, 2, T]
    or [B, 2].
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        self.pairs_per_update = stage.batch.sequences_per_update // len(SIDES)
        self._pairs = None  # opened, or sampled, when they are first needed
        self.likelihood = likelihood_of(stage)
        self.score = context.jit_score(
            TokenFilter(), micro_batches=stage.batch.micro_batches, likelihood=self.likelihood
        )
        objective = stage.objective
        self.loss = functools.partial(
            preference_loss,
            score=objective.part("score"),
            link=objective.part("link"),
            metrics=[
                objective.bind(metric)
                for metric in METRICS
                if fields_of(metric).keys() <= objective.values.keys()
            ],
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
        statistics = self.likelihood(network, params, model_inputs(batch), TokenFilter())
        arrays = {name: array for name, array in batch.items() if name in PREFERENCE_ARRAYS}
        for name, array in token_arrays(statistics).items():
            arrays[name] = array.reshape(mask.shape)
        loss, metrics = self.loss(arrays)
        chosen = mask & (jnp.arange(mask.shape[1]) == 0)[:, None]
        metrics["token_accuracy"] = masked(arrays["greedy"], chosen)
        metrics["entropy"] = masked(arrays["entropy"], mask)
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def collect(self, state: TrainState, step: int) -> tuple[TrainState, Experience]:
        """The pairs of one update; where the objective needs it, with what the reference says."""
        records = records_for_step(self.pairs(state, step), step - 1, self.pairs_per_update)
        rows = pair_rows(self.context, self.stage, records)
        tokens = int(rows["mask"].sum())
        batch = lead_with_prompts(rows, len(SIDES)) | self.reference_arrays(rows)
        # A pair with an empty side says nothing about the other: it is not counted.
        usable = rows["mask"].any(axis=-1).reshape(-1, len(SIDES)).all(axis=1)
        batch["weights"] = (usable / max(usable.sum(), 1)).astype(np.float32)
        return state, Experience([batch], {}, {}, tokens)

    def pairs(self, state: TrainState, step: int) -> Any:
        """The stage's pairs in the order of training; sampled first where no file is given.

        The policy that the stage starts from samples them: the reference where there is one, else
        that of the state before step 1.

        Raises:
            ValueError: if sampled pairs were lost and this policy with them.
        """
        if self._pairs is None:
            source, path = self.stage.data["source"], self.stage.data["path"]
            if source == "sampled_pairs":
                source, path = "jsonl", self._sampled_file(state, step)
            opened = open_pairs(self.stage, source, path)
            self._pairs = stream(opened, seed=self.context.config.seed, shuffle=True)
        return self._pairs

    def _sampled_file(self, state: TrainState, step: int) -> Path:
        path = pairs_file(self.context, self.stage)
        if self.reference is None and step > 1 and not path.exists():
            raise ValueError(
                f"{path} is gone, and the policy that sampled it has moved on to step {step}: put "
                f"the file back, or start in a new workdir (config.{self.stage.name}.data.source)."
            )
        params = self.context.full(state.params) if self.reference is None else self.reference
        return sample_pairs(self.context, self.stage, params)

    def reference_arrays(self, rows: Rows) -> Rows:
        """What the frozen reference says of the sides, on the host; {} without one."""
        if self.reference is None:
            return {}
        placed = put_rows(model_rows(rows), self.context.mesh)
        logprobs = jax.device_get(self.score(self.reference, placed))
        sums = np.where(rows["mask"], logprobs, 0.0).sum(axis=-1)
        arrays = {"ref_sequence_logprobs": sums.reshape(-1, len(SIDES))}
        if "ref_logprobs" in self.stage.objective.inputs:
            arrays["ref_logprobs"] = logprobs.reshape(-1, len(SIDES), logprobs.shape[-1])
        return arrays


def open_pairs(stage: Stage, kind: str, path: str | Path) -> Sequence[Record]:
    """The file of a stage's pairs."""
    return open_source(
        kind,
        path=path,
        chat_columns=("prompt",),
        text_columns=SIDES,
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
    texts = [record[side] for record in records for side in SIDES]
    completions, mask = encode_completions(
        texts,
        context.tokenizer,
        max_new_tokens=stage.data["max_completion_tokens"],
        ids=np.repeat(ids, len(SIDES)).tolist(),
        field=f"config.{stage.name}.data.max_completion_tokens",
    )
    shape = (len(prompts), len(SIDES), -1)
    return rollout_rows(
        prompts,
        prompt_mask,
        completions.reshape(shape),
        mask.reshape(shape),
        share_prompts=stage.batch.share_prompts,
    )
