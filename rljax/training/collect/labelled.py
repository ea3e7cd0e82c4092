"""Labelled completions from a file, in an order that follows from the seed."""

from collections.abc import Sequence

from rljax.config.stage import Stage
from rljax.data.feedback import Unpaired, labelled_of
from rljax.data.pairs import SIDES
from rljax.data.sources import open_source
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import ShuffledPrompts, State
from rljax.training.collect.stage_rows import Read, checked_rows, keeps_all
from rljax.training.run.context import Context, Record


class LabelledSource:
    """Experience that is read: the completions of a step."""

    def __init__(self, context: Context, stage: Stage, records: Sequence[Record]) -> None:
        self.per_step = stage.batch.sequences_per_update
        self.completions = ShuffledPrompts(records, seed=context.config.seed)

    def first_state(self) -> State:
        """Nothing taken yet."""
        return self.completions.first_state()

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The completions of a step."""
        del policy
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


def kept_rows(context: Context, stage: Stage, read: Read = labelled_of) -> Sequence[Record]:
    """The rows of a stage's file that it has room for, of those that were checked at the start."""
    records = open_labelled(stage, read)
    if keeps_all(stage):
        return records
    return checked_rows(context, stage, records, read)
