"""Labelled completions: from a file, or of the policy's own samples."""

from collections.abc import Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.feedback import Unpaired, labelled_of
from rljax.data.pairs import SIDES
from rljax.data.sources import open_source
from rljax.models.network import Params
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.pairs import RoundRows
from rljax.training.collect.prompts import ShuffledPrompts, State
from rljax.training.collect.sampled_pairs import label_rounds
from rljax.training.collect.stage_rows import Read, checked_rows, keeps_all
from rljax.training.run.context import Context, Record


def samples_labels(stage: Stage) -> bool:
    """Whether the stage's policy writes the completions itself."""
    return stage.data["source"] == "sampled_labels"


class LabelledSource:
    """Experience that is read: the completions of a step, in an order that follows from the seed.

    Where no file is given, the policy samples them in the first step of each round.
    """

    def __init__(
        self,
        context: Context,
        stage: Stage,
        start: Params | None = None,
        records: Sequence[Record] = (),
    ) -> None:
        """Samples nothing yet.

        Args:
            context: of the stage, with the parameters of its models.
            stage: of labelled completions.
            start: all parameters that the stage starts from, where they are kept.
            records: of its file, where it has one.
        """
        self.per_step, seed = stage.batch.sequences_per_update, context.config.seed
        self.rounds = self.completions = None
        if samples_labels(stage):
            self.rounds = RoundRows(label_rounds(context, stage, start), seed)
        else:
            self.completions = ShuffledPrompts(records, seed=seed)

    def first_state(self) -> State:
        """Nothing taken yet."""
        return {"taken": np.int64(0)}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The completions of a step.

        Raises:
            ValueError: if sampled ones were lost, and the policy that sampled them with them.
        """
        if self.rounds is not None:
            return self.rounds.collect(policy, state, step, self.per_step)
        taken, state = self.completions.take(state, step, self.per_step)
        return Experience(taken.records), state


def open_labelled(stage: Stage, read: Read = labelled_of) -> Sequence[Record]:
    """The rows of a stage's file (data/feedback.py); a file of pairs is one of its sides.

    Args:
        stage: of the unpaired family.
        read: the reader of its rows; pairs have labels of sides, and none of steps.
    """
    field = f"config.{stage.name}.data.path"
    records = open_source(stage.data["source"], path=stage.data["path"], path_field=field)
    if read is not labelled_of:
        return records
    first = records[0]
    pairs = first.get("label") is None and all(first.get(side) is not None for side in SIDES)
    return Unpaired(records) if pairs else records


def kept_labelled(context: Context, stage: Stage, read: Read = labelled_of) -> Sequence[Record]:
    """The rows of a stage's file that it has room for, of those that were checked at the start."""
    records = open_labelled(stage, read)
    if keeps_all(stage):
        return records
    return checked_rows(context, stage, records, read)
