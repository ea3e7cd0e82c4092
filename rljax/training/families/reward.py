"""Reward models: a score for each completion of a prompt, from pairs, labels or ratings on disk."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.batches import equal_batches
from rljax.data.feedback_survey import FeedbackSurvey, overlap_remark
from rljax.data.sources import Part
from rljax.models.network import Network, Params
from rljax.objectives.arrays import REWARD_ARRAYS
from rljax.objectives.parts import apply
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows
from rljax.training.collect.experience import Experience
from rljax.training.collect.pairs import PairSource, open_pairs
from rljax.training.collect.stage_rows import (
    HELDOUT,
    checked_rows,
    judged,
    rows_of_step,
    say_all,
)
from rljax.training.families import Family, StepBatches
from rljax.training.families.feedback import (
    completions_per_row,
    feedback_of,
    feedback_rows,
)
from rljax.training.families.goal_term import UNIFORMS, GoalTerm, draws_goals, goal_draws
from rljax.training.families.invariance_term import InvarianceTerm
from rljax.training.run.context import Context
from rljax.training.run.problems import Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows, lead_with_prompts, model_inputs
from rljax.training.update.sequence_scores import (
    completion_states,
    make_head_scores,
    make_token_scores,
    scores_at_end,
    scores_of_tokens,
)
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics
from rljax.training.update.verdicts import make_verdict_scores, verdict_ids, verdicts_at_end

# What an option of `representation` adds to the loss of pairs.
TERMS = {"none": None, "goal_conditioned": GoalTerm, "length_invariance": InvarianceTerm}

# One row in so many, the last ones, is held out where the stage has no file of held-out rows.
HELDOUT_ONE_IN = 10


class RewardModel(Family):
    """Bradley-Terry and relatives. The leading axis of a batch is the prompt, the next its answers.

    Of a pair side 0 is chosen. What the loss reads is there by name (`REWARD_ARRAYS`).
    """

    best_metric = "reward_accuracy"

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage = context, stage
        self.count, self.feedback = completions_per_row(stage), feedback_of(stage)
        trained, self.heldout = trained_and_heldout(context, stage)
        self.source = PairSource(context, stage, records=trained, per_row=self.count)
        self.loss = stage.objective.part("reward_loss")
        term = TERMS[stage.objective.choices["representation"]]
        self.term = None if term is None else term(stage)
        self.verdicts = stage_verdicts(context, stage)
        self.of_steps = "step_scores" in stage.objective.inputs
        self.score = context.jit_with_params(self._make_score, batch_sharding(context.mesh))

    def _make_score(self, network: Network) -> Callable[[Params, Batch], Array]:
        """The scores of held-out rows: of completions [N], or of each of their tokens [N, T]."""
        if self.verdicts is not None:
            return make_verdict_scores(network, self.verdicts)
        return make_token_scores(network) if self.of_steps else make_head_scores(network)

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Reads every row once."""
        stage_verdicts(context, stage)
        trained_and_heldout(context, stage)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Mean over the prompts of the whole batch (objectives/reward_models/)."""
        network, mask = self.context.network, batch["mask"]
        states, routing = completion_states(network, params, model_inputs(batch))
        states = states.reshape(*mask.shape[:2], *states.shape[-2:])
        arrays = {name: batch[name] for name in REWARD_ARRAYS if name in batch}
        arrays |= self._said(params, states, mask)
        loss, metrics = apply(self.loss, arrays)
        if self.term is not None:
            more, logged = self.term.loss(states, batch, arrays)
            loss, metrics = loss + more, metrics | logged
        balance, balance_metrics = balance_loss(
            network.config, routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def _said(self, params: Params, states: Array, mask: Array) -> dict[str, Array]:
        """What the model says of completions, by the names of `REWARD_ARRAYS`.

        Args:
            params: all parameters.
            states: [B, K, T + 1, D] f32.
            mask: [B, K, T] bool.
        """
        network = self.context.network
        if self.verdicts is not None:
            said = verdicts_at_end(network, params, states, mask, self.verdicts)
            return {"good_logprobs": said[..., 0], "bad_logprobs": said[..., 1]}
        if self.of_steps:
            return {"step_scores": scores_of_tokens(network, params, states)}
        scores = scores_at_end(network, params, states, mask)
        if self.count != 2:
            return {"side_scores": scores}
        return {
            "side_scores": scores,
            "chosen_scores": scores[:, 0],
            "rejected_scores": scores[:, 1],
        }

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """What a term knows of the whole batch, where it is a function of that."""
        if self.term is None:
            return batch
        network, parts = self.context.network, self.stage.batch.micro_batches

        def states_of(part: Batch) -> Array:
            states, _ = completion_states(network, params, model_inputs(part))
            return states.reshape(*part["mask"].shape[:2], *states.shape[-2:])

        return batch | self.term.of_batch(states_of, batch, parts)

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The rows of one update."""
        rows, targets = self._rows(experience.records)
        tokens = int(rows["mask"].sum())
        batch = lead_with_prompts(rows, self.count) | {
            name: array for name, array in targets.items() if name in self.stage.objective.inputs
        }
        if draws_goals(self.stage):
            seed = (self.context.config.seed, step)
            batch[UNIFORMS] = goal_draws(self.stage, len(targets["present"]), seed)
        usable = self.feedback.usable(targets)
        batch["weights"] = (usable / max(usable.sum(), 1)).astype(np.float32)
        return state, StepBatches([batch], {}, {}, tokens)

    def evaluate(
        self, state: TrainState, heldout: Callable[[Params], dict[str, float]] | None
    ) -> dict[str, float]:
        """What the scores of held-out rows say (training/pair_evaluation/scores.py)."""
        params = self.context.full(state.params)
        count = len(self.heldout)
        per_pass = self.stage.batch.sequences_per_micro_batch // self.count
        found: list[Rows] = []
        for index in equal_batches(count, per_pass):
            rows, targets = self._rows([{**self.heldout[i], "id": i} for i in index])
            placed = put_rows(model_rows(rows), self.context.mesh)
            scores = to_host(self.score(params, placed))
            scores = scores.reshape(-1, self.count, *scores.shape[-1:] * self.of_steps)
            lengths = rows["mask"].sum(axis=-1).reshape(-1, self.count)
            found.append(targets | {"scores": scores, "lengths": lengths})
        whole = {name: np.concatenate([part[name] for part in found])[:count] for name in found[0]}
        return self.feedback.judge(whole.pop("scores"), whole.pop("lengths"), whole)

    def _rows(self, records: Sequence[Record]) -> tuple[Rows, Rows]:
        """Rows of a file as rows of a batch, and what is said of them."""
        found = rows_of_step(self.context, self.stage, records, self.feedback.read)
        return feedback_rows(self.context, self.stage, found)


def stage_verdicts(context: Context, stage: Stage) -> tuple[int, int] | None:
    """The tokens of a stage's verdicts; None where a head scores.

    Raises:
        ValueError: for a verdict that is no single token.
    """
    if "verdicts" not in stage.data:
        return None
    where = f"config.{stage.name}.data.verdicts"
    return verdict_ids(context.tokenizer, stage.data["verdicts"], where)


def trained_and_heldout(
    context: Context, stage: Stage
) -> tuple[Sequence[Record], Sequence[Record]]:
    """The rows of `split_rows` that the stage has room for, each read once.

    Raises:
        ValueError: for rows that cannot be read or are too long.
    """
    surveys, read = (FeedbackSurvey(), FeedbackSurvey()), feedback_of(stage).read
    fields = "path", HELDOUT if stage.data[HELDOUT] else "path"
    trained, heldout = (
        checked_rows(context, stage, records, read, survey, field)
        for records, survey, field in zip(split_rows(stage), surveys, fields, strict=True)
    )
    say_all(stage, overlap_remark(*surveys), HELDOUT)
    return trained, heldout


def split_rows(stage: Stage) -> tuple[Sequence[Record], Sequence[Record]]:
    """The rows that a stage learns from, and those that it is judged by.

    The latter are those of `data.heldout_path`, or else the last tenth of the file; the first
    `data.heldout_limit` of them, where that is given.

    Raises:
        ValueError: for a file that cannot be read, or of a single row.
    """
    data, where = stage.data, f"config.{stage.name}.data"
    pairs = open_pairs(stage, data["source"], data["path"])
    if data["heldout_path"]:
        heldout = open_pairs(stage, data["source"], data["heldout_path"], HELDOUT)
        return pairs, judged(stage, heldout)
    if len(pairs) < 2:
        raise ValueError(
            f"{data['path']} holds a single row, and one is needed to judge the model: give more, "
            f"or a file of held-out rows ({where}.path, {where}.heldout_path)."
        )
    first = len(pairs) - max(1, len(pairs) // HELDOUT_ONE_IN)
    return Part(pairs, range(first)), judged(stage, Part(pairs, range(first, len(pairs))))
