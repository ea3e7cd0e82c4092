"""The rows that an unpaired stage learns from: labelled completions, or labelled steps."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rljax.config.stage import Stage
from rljax.data.feedback import Labelled, Stepwise, labelled_of, stepwise_of
from rljax.training.collect.stage_rows import answer_rows
from rljax.training.families.row_kind import RowKind, any_present, one_completion
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows


def rows_of(stage: Stage) -> RowKind:
    """The kind of rows that a stage's objective learns from."""
    steps = "step_ids" in stage.objective.inputs
    read = stepwise_of if steps else labelled_of
    targets = functools.partial(_steps, stage) if steps else _labels
    return RowKind(read, one_completion, targets, any_present)


def completions_of(context: Context, stage: Stage, read: Sequence[Any]) -> Rows:
    """Completions behind their prompts, one row each."""
    prompts, answers = [each.prompt for each in read], [[each.completion] for each in read]
    return answer_rows(context, stage, prompts, answers, share_prompts=False)


def no_targets(stage: Stage, count: int) -> Rows:
    """What rows say besides their completions: the shapes alone, for plans.

    Args:
        stage: of the unpaired family.
        count: N.
    """
    kind = rows_of(stage)
    empty = Labelled([], [], False) if kind.read is labelled_of else Stepwise([], [], [], [], None)
    return kind.targets([empty] * count, np.zeros((count, 1), bool))


def _labels(read: Sequence[Labelled], present: np.ndarray) -> Rows:
    return {"labels": np.array([each.label for each in read], bool)}


def _steps(stage: Stage, read: Sequence[Stepwise], present: np.ndarray) -> Rows:
    """Labels of whole answers where there are any, and of steps by their tokens."""
    shape = (len(read), stage.data["max_completion_tokens"])
    step_ids, labels = np.full(shape, -1, np.int32), np.zeros(shape, bool)
    counted = np.zeros(shape, bool)
    for n, row in enumerate(read):
        for step, (start, end) in enumerate(zip([0, *row.ends], row.ends, strict=False)):
            step_ids[n, start:end] = step
        labels[n, : len(row.labels)] = row.labels
        said = len(row.labels)
        if stage.objective.values["first_error_only"] and not all(row.labels):
            said = row.labels.index(False) + 1
        counted[n, :said] = True
    return {
        "labels": np.array([bool(row.outcome) for row in read], bool),
        "labelled": np.array([row.outcome is not None for row in read], bool),
        "step_ids": step_ids,
        "step_labels": labels,
        "step_counted": counted,
    }
