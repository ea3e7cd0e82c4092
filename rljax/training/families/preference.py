"""Preference stages: pairs (prompt, chosen, rejected), of a file or of the policy's own samples.

A frozen reference policy is there where the objective's parts name its log-probabilities.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.encode import encode_completions, encode_prompts
from rljax.data.packing import check_not_empty
from rljax.models.network import Params
from rljax.objectives.arrays import PREFERENCE_ARRAYS
from rljax.objectives.metrics import masked
from rljax.objectives.parts import fields_of
from rljax.objectives.preference import METRICS, preference_loss
from rljax.parallel.rules import put_rows
from rljax.registry import Objective
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.experience import Experience
from rljax.training.collect.pairs import SIDES, PairSource, open_pairs
from rljax.training.families import Family, StepBatches
from rljax.training.run.context import Context, Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows, lead_with_prompts, model_inputs, rollout_rows
from rljax.training.update.state import TrainState
from rljax.training.update.token_statistics import token_arrays
from rljax.training.update.train_step import Batch, Metrics


class Preference(Family):
    """DPO and its relatives. The leading axis of a batch is the pair; side 0 of it is chosen.

    What the loss reads of a batch is there by name (`PREFERENCE_ARRAYS`), with the axes [B, 2, T]
    or [B, 2].
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        # What the stage starts from samples the pairs; a reference of its own is another model.
        start = None if "reference" in stage.models else reference
        self.source = PairSource(context, stage, start)
        self.likelihood = likelihood_of(stage)
        self.score = context.jit_score(
            TokenFilter(), micro_batches=stage.batch.micro_batches, likelihood=self.likelihood
        )
        objective = stage.objective
        self.loss = functools.partial(
            preference_loss,
            score=objective.part("score"),
            link=objective.part("link"),
            metrics=[known_fields_bound(metric, objective) for metric in METRICS],
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

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The pairs of one update; where the objective needs it, with what the reference says."""
        rows = pair_rows(self.context, self.stage, experience.records)
        tokens = int(rows["mask"].sum())
        batch = lead_with_prompts(rows, len(SIDES)) | self.reference_arrays(rows)
        # A pair with an empty side says nothing about the other: it is not counted.
        usable = rows["mask"].any(axis=-1).reshape(-1, len(SIDES)).all(axis=1)
        batch["weights"] = (usable / max(usable.sum(), 1)).astype(np.float32)
        return state, StepBatches([batch], {}, {}, tokens)

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


def known_fields_bound(metric: Callable, objective: Objective) -> Callable:
    """A metric with those of its fields that the objective has; the others keep their defaults."""
    fields = fields_of(metric).keys() & objective.values.keys()
    return functools.partial(metric, **{name: objective.values[name] for name in fields})


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
    for number, tokens in zip(ids, prompt_mask.sum(axis=1), strict=True):
        where = f"{stage.data['path'] or 'Pairs'}, record {number}"
        check_not_empty(tokens, where, f"config.{stage.name}.data.path")
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
