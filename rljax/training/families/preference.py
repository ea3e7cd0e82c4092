"""Preference stages: pairs (prompt, chosen, rejected), of a file or of the policy's own samples.

So are rows of several completions: two groups, or completions with a rating each
(preference_rows.py). A frozen reference policy is there where the objective's parts name its
log-probabilities.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.data_files import kind_of_files
from rljax.data.feedback_survey import FeedbackSurvey, overlap_remark
from rljax.data.pairs import SIDES, pair_of
from rljax.models.network import Params
from rljax.objectives.arrays import PREFERENCE_ARRAYS
from rljax.objectives.metrics import masked
from rljax.objectives.parts import apply, fields_of
from rljax.objectives.preference import (
    GROUP_METRICS,
    METRICS,
    RATED_METRICS,
    preference_loss,
)
from rljax.objectives.sequences import sequence_logprobs
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.registry import Objective
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.experience import Experience
from rljax.training.collect.pairs import PairSource, kept_pairs, open_pairs, pairs_of_file
from rljax.training.collect.reference_cache import check_named_cache, reference_cache
from rljax.training.collect.round_prompts import check_round_prompts
from rljax.training.collect.stage_rows import (
    HELDOUT,
    answer_rows,
    checked_rows,
    judged,
    rows_of_step,
    say_all,
)
from rljax.training.families import Family, StepBatches
from rljax.training.families.feedback import completions_per_row
from rljax.training.families.preference_rows import preference_rows, said_of, side_rows
from rljax.training.pair_evaluation.heldout import PairEvaluation, preferred_shares
from rljax.training.run.context import Context
from rljax.training.run.problems import Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.likelihood import draws, likelihood_of, likelihood_rows
from rljax.training.update.logprobs import make_statistics, model_rows
from rljax.training.update.moving_copy import (
    REFERENCE,
    carried_copy,
    check_moves,
    jit_move,
    moved,
    moves_before,
)
from rljax.training.update.rows import Rows, lead_with_prompts, model_inputs
from rljax.training.update.sequences import END_SHARE, end_learned_share
from rljax.training.update.state import Carried, TrainState
from rljax.training.update.token_statistics import token_arrays
from rljax.training.update.train_step import Batch, Metrics


class Preference(Family):
    """DPO and its relatives. The leading axis of a batch is the prompt, the next its completions.

    Of a pair side 0 is chosen. What the loss reads of a batch is there by name
    (`PREFERENCE_ARRAYS`), with the axes [B, K, T] or [B, K].
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage, self.reference = context, stage, reference
        self.kind, self.count = side_rows(stage), completions_per_row(stage)
        self.first_step = first_step  # masks are drawn by run, not by stage
        # What the stage starts from samples the pairs; a reference of its own is another model.
        start = None if "reference" in stage.models else reference
        cached = bool(stage.data.get("reference_cache"))
        records = pairs_of_file(context, stage, self.kind.read) if cached else None
        self.source = PairSource(context, stage, start, records, self.count, self.kind.read)
        self.likelihood = likelihood_of(stage)
        self.score = context.jit_score(
            TokenFilter(), micro_batches=stage.batch.micro_batches, likelihood=self.likelihood
        )
        self.loss = loss_of(stage.objective)
        if stage.moves_reference:
            self.move = jit_move(context.network, context.mesh)
        heldout = heldout_pairs(stage)
        self.heldout = None
        if heldout:
            self.heldout = PairEvaluation(
                context,
                kept_pairs(context, stage, heldout, HELDOUT),
                # What the score splits into micro-batches.
                stage.batch.sequences_per_update // self.count,
                functools.partial(pair_rows, context, stage),
                self.score,
                moving_reference=stage.moves_reference,
            )
        self.cache = None
        if cached:
            size = stage.batch.sequences_per_update // self.count
            self.cache = reference_cache(
                context, stage, reference, records, self.kind.read, self._said, size
            )

    @staticmethod
    def carried(context: Context, stage: Stage) -> Carried:
        """The reference, where it follows the policy."""
        if not stage.moves_reference:
            return Carried()
        return carried_copy(REFERENCE, context.network, context.mesh)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Reads every row of the files once; held-out ones are pairs."""
        check_moves(context.network, stage, REFERENCE)
        surveys, read = (FeedbackSurvey(), FeedbackSurvey()), side_rows(stage).read
        if stage.data["source"] == "sampled_pairs":
            check_round_prompts(context, stage)
        else:
            opened = open_pairs(stage, stage.data["source"], stage.data["path"])
            kept = checked_rows(context, stage, opened, read, surveys[0])
            if stage.data["reference_cache"]:
                check_named_cache(context, stage, kept, read)
        if heldout := heldout_pairs(stage):
            preferred_shares(heldout)
            checked_rows(context, stage, heldout, pair_of, surveys[1], HELDOUT)
            say_all(stage, overlap_remark(*surveys), HELDOUT)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Mean over the pairs of the whole batch (objectives/preference/)."""
        network, mask = self.context.network, batch["mask"]
        statistics = self.likelihood(network, params, model_inputs(batch), TokenFilter())
        arrays = {name: array for name, array in batch.items() if name in PREFERENCE_ARRAYS}
        for name, array in token_arrays(statistics).items():
            if name in PREFERENCE_ARRAYS:
                arrays[name] = array.reshape(mask.shape)
        loss, metrics = self.loss(arrays)
        metrics["token_accuracy"] = masked(arrays["greedy"], mask & wanted_sides(batch)[..., None])
        metrics["entropy"] = masked(arrays["entropy"], mask)
        balance, balance_metrics = balance_loss(
            network.config, statistics.routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """What the pairs of the whole batch know of each other, and of the policy as it is."""
        objective = self.stage.objective
        if objective.choices["pair_weight"] == "none" and not objective.batch_inputs:
            return batch
        known = {name: array for name, array in batch.items() if name in PREFERENCE_ARRAYS}
        known |= self._current(params, batch)
        return batch | whole_batch(objective, known)

    def _current(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What parts read of the policy before the update, from one pass each."""
        inputs, shape = self.stage.objective.inputs, batch["mask"].shape

        def scored(token_filter: TokenFilter) -> Array:
            statistics = make_statistics(
                self.context.network,
                token_filter,
                micro_batches=self.stage.batch.micro_batches,
                likelihood=self.likelihood,
            )
            return statistics(params, model_inputs(batch))["logprobs"].reshape(shape)

        logprobs = scored(TokenFilter())
        found = {
            "current_logprobs": logprobs,
            "current_sequence_logprobs": sequence_logprobs(logprobs, batch["mask"]),
        }
        if "current_log_collision" in inputs:
            # As training/learner/scoring.py: log sum p^2 = 2 log p(y) - log p(y at half the
            # temperature).
            colder = scored(dataclasses.replace(TokenFilter(), temperature=0.5))
            found["current_log_collision"] = 2 * logprobs - colder
        return found

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The rows of one update; where the objective needs it, with what the reference says."""
        rows, targets = self._rows(experience.records)
        number = self.first_step + step
        rows |= side_keys(self.context, self.stage, experience.records, self.count, number)
        if self.stage.moves_reference and moves_before(self.stage, step):
            share = self.stage.objective.values["reference_mixup"]
            state = moved(state, REFERENCE, self.move, share)
        tokens = int(rows["mask"].sum())
        batch = lead_with_prompts(rows, self.count) | said_of(targets)
        if self.cache:
            batch |= self.cache.of(experience.records)
        else:
            batch |= self.reference_arrays(rows, self._reference(state))
        # A pair with an empty side says nothing about the other: it is not counted.
        usable = self.kind.usable(targets)
        batch["weights"] = (usable / max(usable.sum(), 1)).astype(np.float32)
        chosen = self.kind.chosen(targets) & usable[:, None]
        chosen = rows["mask"].reshape(*chosen.shape, -1)[chosen].sum()
        length = np.full(len(usable), max(chosen, 1) / max(usable.sum(), 1), np.float32)
        known = {"usable": usable, "mean_chosen_length": length}
        batch |= {name: known[name] for name in known if name in self.stage.objective.inputs}
        metrics = {END_SHARE: end_learned_share(rows, self.context.text_format.ends)}
        return state, StepBatches([batch], experience.metrics | metrics, {}, tokens)

    def evaluate(
        self, state: TrainState, heldout: Callable[[Params], dict[str, float]] | None
    ) -> dict[str, float]:
        """Held-out problems, and where the stage has held-out pairs how the policy ranks them."""
        metrics = super().evaluate(state, heldout)
        if self.heldout is None:
            return metrics
        beta = self.stage.objective.values.get("beta")
        reference = self._reference(state)
        return metrics | self.heldout(self.context.full(state.params), reference, beta)

    def first_loss(self, batch: Rows) -> float | None:
        """The loss with the reference's own log-probabilities: ln 2 for DPO, say."""
        objective, mask = self.stage.objective, batch["mask"]
        known = "ref_sequence_logprobs" in batch and not self.context.network.config.experts
        # Weights are of whole distributions, which the reference's log-probabilities do not give.
        if not known or objective.choices["pair_weight"] != "none":
            return None
        arrays = {name: array for name, array in batch.items() if name in PREFERENCE_ARRAYS}
        if "ref_logprobs" in arrays:
            arrays["logprobs"] = arrays["ref_logprobs"]
        else:
            each = batch["ref_sequence_logprobs"] / np.maximum(mask.sum(axis=-1), 1)
            arrays["logprobs"] = np.where(mask, each[..., None], 0.0).astype(np.float32)
        arrays["current_sequence_logprobs"] = arrays["ref_sequence_logprobs"]
        loss, _ = self.loss(arrays | whole_batch(objective, arrays))
        return float(np.sum(batch["weights"] * np.asarray(loss)))

    def _said(self, records: Sequence[Record]) -> Rows:
        """What the reference says of the records of an update."""
        return self.reference_arrays(self._rows(records)[0], self.reference)

    def _reference(self, state: TrainState) -> Params | None:
        """All parameters of the reference; None where the objective has none."""
        if not self.stage.moves_reference:
            return self.reference
        return self.context.full(state.carried[REFERENCE])

    def _rows(self, records: Sequence[Record]) -> tuple[Rows, Rows]:
        """Rows of a file as rows of a batch, and what is said of them."""
        return preference_rows(self.context, self.stage, self.kind, records)

    def reference_arrays(self, rows: Rows, reference: Params | None) -> Rows:
        """What the reference says of the sides, on the host; {} without one."""
        if reference is None:
            return {}
        placed = put_rows(model_rows(rows), self.context.mesh)
        logprobs = to_host(self.score(reference, placed))
        sums = np.where(rows["mask"], logprobs, 0.0).sum(axis=-1)
        arrays = {"ref_sequence_logprobs": sums.reshape(-1, self.count)}
        if "ref_logprobs" in self.stage.objective.inputs:
            arrays["ref_logprobs"] = logprobs.reshape(-1, self.count, logprobs.shape[-1])
        return arrays


def heldout_pairs(stage: Stage) -> Sequence[Record]:
    """The pairs of `data.heldout_path`; () without one."""
    path = stage.data[HELDOUT]
    if not path:
        return ()
    kind = kind_of_files(path, f"config.{stage.name}.data.{HELDOUT}")
    return judged(stage, open_pairs(stage, kind, path, HELDOUT))


def loss_of(objective: Objective) -> Callable:
    """`preference_loss` of the parts that an objective chose, with what is logged."""
    second, nll, groups = (
        None if objective.choices[choice] == "none" else objective.part(choice)
        for choice in ("second_link", "chosen_nll", "group_estimator")
    )
    return functools.partial(
        preference_loss,
        score=objective.part("score"),
        link=objective.part("link"),
        link_weight=objective.values["link_weight"],
        second_link=second,
        second_weight=objective.values.get("second_weight", 1.0),
        group_estimator=groups,
        chosen_nll=nll,
        metrics=[known_fields_bound(metric, objective) for metric in metrics_of(objective)],
    )


def metrics_of(objective: Objective) -> Sequence[Callable]:
    """What is logged of the rows that an objective reads."""
    if objective.choices["group_estimator"] != "none":
        return GROUP_METRICS
    return RATED_METRICS if "ratings" in objective.inputs else METRICS


def wanted_sides(batch: Batch) -> Array:
    """The completions whose tokens should become likelier: [B, K] bool; all, where none is chosen.

    Args:
        batch: of an update.
    """
    mask = batch["mask"]
    if "chosen_sides" in batch:
        return batch["chosen_sides"]
    return jnp.broadcast_to(("ratings" in batch) | (jnp.arange(mask.shape[1]) == 0), mask.shape[:2])


def whole_batch(objective: Objective, arrays: dict[str, Array]) -> dict[str, Array]:
    """What the loss of a pair reads of the whole batch, by name; constants of the update.

    Args:
        objective: of the stage.
        arrays: of all pairs, by name; those that its batch inputs and its pair weight read.
    """
    made = {name: apply(part, arrays) for name, part in objective.batch_inputs.items()}
    if objective.choices["pair_weight"] != "none":
        made["pair_weights"] = apply(objective.part("pair_weight"), arrays)
    return jax.lax.stop_gradient(made)


def known_fields_bound(metric: Callable, objective: Objective) -> Callable:
    """A metric with those of its fields that the objective has; the others keep their defaults."""
    fields = fields_of(metric).keys() & objective.values.keys()
    return functools.partial(metric, **{name: objective.values[name] for name in fields})


def pair_rows(context: Context, stage: Stage, records: Sequence[Record]) -> Rows:
    """Held-out pairs as rows: chosen and rejected in one row, or in two next to each other.

    Where the likelihood draws masks, they are the same in every evaluation.
    """
    pairs = rows_of_step(context, stage, records, pair_of)
    prompts, sides = [pair.prompt for pair in pairs], [pair.sides for pair in pairs]
    rows = answer_rows(context, stage, prompts, sides, share_prompts=stage.batch.share_prompts)
    return rows | side_keys(context, stage, records, len(SIDES), step=0)


def side_keys(
    context: Context, stage: Stage, records: Sequence[Record], count: int, step: int
) -> Rows:
    """The keys of the masks of `count` completions of each record; {} where none are drawn.

    Args:
        context: of the run.
        stage: of its pairs.
        records: with their ids.
        count: K.
        step: counted over the whole run.
    """
    if not draws(stage):
        return {}
    ids = np.repeat([record["id"] for record in records], count)
    numbers = np.tile(np.arange(count), len(records))
    return likelihood_rows(context.config.seed, step, ids, numbers)
