"""The rows that a preference stage learns from: pairs, two groups, or rated completions."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rljax.config.stage import Stage
from rljax.data.feedback import Groups, groups_of
from rljax.data.pairs import pair_of
from rljax.training.collect.stage_rows import ragged_rows, rows_of_step
from rljax.training.families.feedback import (
    check_room,
    completions_per_row,
    ratings_of,
    read_scored,
)
from rljax.training.families.row_kind import RowKind, all_present
from rljax.training.run.context import Context, Record
from rljax.training.update.rows import Rows


def side_rows(stage: Stage) -> RowKind:
    """The kind of rows that a stage's objective learns from."""
    most = completions_per_row(stage)
    words = {"most": most, "stage": stage.name}
    if stage.objective.choices["group_estimator"] != "none":
        read = functools.partial(_read_groups, **words)
        return RowKind(read, _members, _groups, _both_groups, lambda t: t["chosen_sides"])
    if "ratings" in stage.objective.inputs:
        read = functools.partial(read_scored, at_least=2, **words)
        return RowKind(read, lambda row: row.completions, _ratings, _compared, _none)
    return RowKind(pair_of, lambda row: row.sides, _presence, all_present, _first)


def preference_rows(
    context: Context, stage: Stage, kind: RowKind, records: Sequence[Record]
) -> tuple[Rows, Rows]:
    """Records of a step as rows of a batch, and what is said of their completions.

    Args:
        context: of the stage.
        stage: of the preference family.
        kind: of the records.
        records: B of them.

    Returns:
        The rows (training/update/rows.py), K completions of each; and `RowKind.targets`, with
        `present` [B, K] bool, False where a prompt has fewer completions or one is empty.
    """
    found = rows_of_step(context, stage, records, kind.read)
    prompts, answers = [row.prompt for row in found], [kind.completions(row) for row in found]
    count = completions_per_row(stage)
    rows, present = ragged_rows(context, stage, prompts, answers, count)
    return rows, kind.targets(found, present)


def no_targets(stage: Stage, prompts: int) -> Rows:
    """What rows say besides their completions: the shapes alone, for plans.

    Args:
        stage: of the preference family.
        prompts: B.
    """
    present = np.ones((prompts, completions_per_row(stage)), bool)
    return said_of(side_rows(stage).targets((), present))


def said_of(targets: Rows) -> Rows:
    """The targets that the loss reads: all of them where a row is no pair, none of a pair's.

    Args:
        targets: of `RowKind.targets`; a pair's says only that both sides are there.
    """
    several = {"chosen_sides", "ratings"} & targets.keys()
    return targets if several else {}


def _read_groups(
    record: Any, text_format: Any, *, where: str, most: int, stage: str, **words: Any
) -> Groups:
    """Two groups that a row of a batch has room for."""
    row = groups_of(record, text_format, where=where, **words)
    check_room(len(_members(row)), most, stage, where)
    return row


def _members(row: Groups) -> list[list[int]]:
    return [*row.chosen, *row.rejected]


def _presence(found: Sequence[Any], present: np.ndarray) -> Rows:
    return {"present": present}


def _groups(found: Sequence[Groups], present: np.ndarray) -> Rows:
    """The first members of a row are those of the chosen group."""
    chosen = np.zeros(present.shape, bool)
    for row, into in zip(found, chosen, strict=False):
        into[: len(row.chosen)] = True
    return {"present": present, "chosen_sides": chosen & present}


def _ratings(found: Sequence[Any], present: np.ndarray) -> Rows:
    return {"present": present} | ratings_of(found, present)


def _both_groups(targets: Rows) -> np.ndarray:
    """A group without a member compares nothing."""
    chosen, present = targets["chosen_sides"], targets["present"]
    return (chosen & present).any(axis=1) & (~chosen & present).any(axis=1)


def _compared(targets: Rows) -> np.ndarray:
    """A single completion is compared with nothing; equal ratings do say something."""
    return targets["present"].sum(axis=1) >= 2


def _first(targets: Rows) -> np.ndarray:
    return targets["present"] & (np.arange(targets["present"].shape[1]) == 0)


def _none(targets: Rows) -> np.ndarray:
    return np.zeros_like(targets["present"])
