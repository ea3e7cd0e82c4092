"""Reward models: a score for each side of a pair (prompt, chosen, rejected) from disk."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.feedback_survey import FeedbackSurvey, overlap_remark
from rljax.data.pairs import SIDES, pair_of
from rljax.data.sources import Part
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows
from rljax.training.collect.experience import Experience
from rljax.training.collect.pairs import PairSource, open_pairs
from rljax.training.collect.stage_rows import checked_rows, say_all
from rljax.training.families import Family, StepBatches
from rljax.training.families.preference import pair_rows
from rljax.training.pair_evaluation.scores import judged_pairs
from rljax.training.run.context import Context
from rljax.training.run.problems import Record
from rljax.training.update.balancing import balance_loss
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import lead_with_prompts, model_inputs
from rljax.training.update.sequence_scores import completion_scores, make_head_scores
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics

# One pair in so many, the last ones, is held out where the stage has no file of held-out pairs.
HELDOUT_ONE_IN = 10


class RewardModel(Family):
    """Bradley-Terry and relatives. The leading axis of a batch is the pair; side 0 is chosen."""

    best_metric = "reward_accuracy"

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage = context, stage
        trained, self.heldout = checked_pairs(context, stage)
        self.source = PairSource(context, stage, records=trained)
        self.loss = stage.objective.part("reward_loss")
        self.score = context.jit_with_params(make_head_scores, batch_sharding(context.mesh))

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Reads every pair once."""
        checked_pairs(context, stage)

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Mean over the pairs of the whole batch (objectives/reward_models.py)."""
        network = self.context.network
        scores, routing = completion_scores(network, params, model_inputs(batch))
        scores = scores.reshape(-1, len(SIDES))
        loss, metrics = self.loss(scores[:, 0], scores[:, 1])
        balance, balance_metrics = balance_loss(
            network.config, routing, micro_batches=self.stage.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The pairs of one update."""
        rows = pair_rows(self.context, self.stage, experience.records)
        tokens = int(rows["mask"].sum())
        batch = lead_with_prompts(rows, len(SIDES))
        # A pair with an empty side says nothing about the other: it is not counted.
        usable = rows["mask"].any(axis=-1).reshape(-1, len(SIDES)).all(axis=1)
        batch["weights"] = (usable / max(usable.sum(), 1)).astype(np.float32)
        return state, StepBatches([batch], {}, {}, tokens)

    def evaluate(
        self, state: TrainState, heldout: Callable[[Params], dict[str, float]] | None
    ) -> dict[str, float]:
        """What `judged_pairs` says of the held-out pairs; one with an empty side says nothing."""
        params, size = self.context.full(state.params), self.stage.batch.sequences_per_micro_batch
        count, pairs = len(self.heldout), size // len(SIDES)
        scores, lengths = [], []
        for start in range(0, count, pairs):
            # The last batch is filled up with the last pair, so that shapes stay the same.
            index = [min(i, count - 1) for i in range(start, start + pairs)]
            records = [{**self.heldout[i], "id": i} for i in index]
            rows = pair_rows(self.context, self.stage, records)
            placed = put_rows(model_rows(rows), self.context.mesh)
            scores.append(to_host(self.score(params, placed)).reshape(-1, len(SIDES)))
            lengths.append(rows["mask"].sum(axis=-1).reshape(-1, len(SIDES)))
        tokens = np.concatenate(lengths)[:count]
        kept = (tokens > 0).all(axis=1)
        return judged_pairs(*np.concatenate(scores)[:count][kept].T, *tokens[kept].T)


def checked_pairs(context: Context, stage: Stage) -> tuple[Sequence[Record], Sequence[Record]]:
    """The pairs of `split_pairs` that the stage has room for, each read once.

    Raises:
        ValueError: for pairs that cannot be read or are too long.
    """
    surveys = FeedbackSurvey(), FeedbackSurvey()
    trained, heldout = (
        checked_rows(context, stage, records, pair_of, survey)
        for records, survey in zip(split_pairs(stage), surveys, strict=True)
    )
    say_all(stage, overlap_remark(*surveys), "heldout_path")
    return trained, heldout


def split_pairs(stage: Stage) -> tuple[Sequence[Record], Sequence[Record]]:
    """The pairs that a stage learns from, and those that it is judged by.

    The latter are those of `data.heldout_path`, or else the last tenth of the file.

    Raises:
        ValueError: for a file that cannot be read, or of a single pair.
    """
    data, where = stage.data, f"config.{stage.name}.data"
    pairs = open_pairs(stage, data["source"], data["path"])
    if data["heldout_path"]:
        return pairs, open_pairs(stage, data["source"], data["heldout_path"])
    if len(pairs) < 2:
        raise ValueError(
            f"{data['path']} holds a single pair, and one is needed to judge the model: give more, "
            f"or a file of held-out pairs ({where}.path, {where}.heldout_path)."
        )
    first = len(pairs) - max(1, len(pairs) // HELDOUT_ONE_IN)
    return Part(pairs, range(first)), Part(pairs, range(first, len(pairs)))
