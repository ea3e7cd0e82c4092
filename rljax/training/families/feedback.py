"""What reward models learn from: completions of a prompt, and what is said of them.

Which rows a stage reads follows from the arrays that its loss names (`REWARD_ARRAYS`).
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rljax.config.stage import Stage
from rljax.data.feedback import (
    Labelled,
    Scored,
    Stepwise,
    labelled_of,
    scored_of,
    stepwise_of,
)
from rljax.data.pairs import MARGIN, SCORES, Pair, margin_of, pair_of
from rljax.objectives.arrays import DTYPES, REWARD_ARRAYS
from rljax.objectives.reward_models import RANKINGS
from rljax.training.collect.stage_rows import ragged_rows
from rljax.training.families.goal_term import UNIFORMS, draws_goals, goal_draws
from rljax.training.families.row_kind import (
    RowKind,
    all_present,
    any_present,
    one_completion,
)
from rljax.training.pair_evaluation.scores import (
    judged_labels,
    judged_pairs,
    judged_ratings,
    judged_steps,
)
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows


def feedback_of(stage: Stage) -> RowKind:
    """The rows that a stage's loss learns from."""
    inputs = stage.objective.inputs
    if "step_labels" in inputs:
        separator, field = stage.data["step_separator"], f"config.{stage.name}.data.step_separator"
        read = functools.partial(read_steps, separator=separator, separator_field=field)
        targets = functools.partial(_steps, slots=stage.data["max_completion_tokens"])
        return RowKind(read, one_completion, targets, any_present, judge=_judge_steps)
    if "good_logprobs" in inputs:
        read = functools.partial(_read_asked, question=stage.data["question"])
        return RowKind(read, one_completion, _labels, any_present, judge=_judge_labels)
    if "labels" in inputs:
        return RowKind(labelled_of, one_completion, _labels, any_present, judge=_judge_labels)
    if "ratings" in inputs:
        ranks = stage.objective.choices["reward_loss"] in RANKINGS
        read = functools.partial(
            read_scored,
            at_least=2 if ranks else 1,
            most=completions_per_row(stage),
            stage=stage.name,
        )
        usable = _compared if ranks else any_present
        return RowKind(read, lambda row: row.completions, ratings_of, usable, judge=_judge_ratings)
    rated = "rated_margins" in inputs
    read, targets = (_read_rated, _margins) if rated else (pair_of, _nothing)
    return RowKind(read, lambda row: row.sides, targets, all_present, judge=_judge_pairs)


def completions_per_row(stage: Stage) -> int:
    """K: the completions of a row, where a file may have fewer."""
    return stage.sequences_together(shared=False)


def feedback_rows(context: Context, stage: Stage, found: Sequence[Any]) -> tuple[Rows, Rows]:
    """Rows of a file as rows of a batch, and what is said of them.

    Args:
        context: of the stage.
        stage: of the reward family.
        found: what `RowKind.read` makes of B rows.

    Returns:
        The rows (training/update/rows.py), K completions of each; and `targets`, with `present`
        [B, K] bool, False where a row has fewer completions or one is empty.
    """
    kind, count = feedback_of(stage), completions_per_row(stage)
    answers, prompts = [kind.completions(row) for row in found], [row.prompt for row in found]
    rows, present = ragged_rows(context, stage, prompts, answers, count)
    return rows, kind.targets(found, present) | {"present": present}


def no_targets(stage: Stage, prompts: int) -> Rows:
    """What a stage's loss reads of its rows, all zeros: the shapes alone, for plans.

    Args:
        stage: of the reward family.
        prompts: B.
    """
    sizes = {"B": prompts, "K": completions_per_row(stage)}
    sizes["T"] = stage.data["max_completion_tokens"]
    draws = {UNIFORMS: goal_draws(stage, prompts, (0, 0))} if draws_goals(stage) else {}
    return draws | {
        name: np.zeros([sizes[axis] for axis in about.axes], np.dtype(DTYPES[about.dtype]))
        for name, about in REWARD_ARRAYS.items()
        if name in stage.objective.inputs and about.level == "step"
    }


def _compared(targets: Rows) -> np.ndarray:
    """Rows whose ratings are alike rank nothing."""
    ratings, present = targets["ratings"], targets["present"]
    highest = np.where(present, ratings, -np.inf).max(axis=1)
    return highest > np.where(present, ratings, np.inf).min(axis=1)


def _read_rated(record: Any, text_format: Any, *, where: str, **words: Any) -> Pair:
    """A pair that says by how much its chosen side is better."""
    if margin_of(record, where) is None:
        raise ValueError(
            f"{where} lacks the column {MARGIN!r}, or {SCORES[0]!r} and {SCORES[1]!r}, that the "
            "loss 'rated_margin' reads (config.<stage>.objective.reward_loss)."
        )
    return pair_of(record, text_format, where=where, **words)


def read_scored(
    record: Any, text_format: Any, *, where: str, most: int, stage: str, **words: Any
) -> Scored:
    """Scored completions that a row of a batch has room for.

    Args:
        record, text_format, where, words: as for `scored_of`.
        most: completions that there is room for.
        stage: its name, for errors.

    Raises:
        ValueError: as `scored_of`, and for more completions.
    """
    row = scored_of(record, text_format, where=where, **words)
    check_room(len(row.completions), most, stage, where)
    return row


def _read_asked(record: Any, text_format: Any, *, question: str, **words: Any) -> Labelled:
    """A labelled completion with the question behind it, as the model is asked."""
    row = labelled_of(record, text_format, **words)
    asked = text_format.tokenizer.encode_inside(question)
    return row._replace(completion=[*row.completion, *asked])


def read_steps(
    record: Any, text_format: Any, *, where: str, separator: str, separator_field: str, **words: Any
) -> Stepwise:
    """Labelled steps that are those of a sample with the same text (`step_ends`).

    A sample has no labels to tell its steps apart: it is cut at every separator.
    """
    row = stepwise_of(record, text_format, where=where, separator=separator, **words)
    for number, step in enumerate(record["completions"]):
        text = step
        while text.endswith(separator):
            text = text.removesuffix(separator)
        if not text.strip() or (text + separator).find(separator) < len(text):
            raise ValueError(
                f"{where}: step {number} holds the separator {separator!r}, at which a sample is "
                f"cut: what is one step here would be several there. Give a separator that stands "
                f"between steps alone ({separator_field})."
            )
    return row


def check_room(count: int, most: int, stage: str, where: str) -> None:
    """Raises ValueError for more completions than a row of a batch has room for."""
    if count > most:
        raise ValueError(
            f"{where} has {count} completions, and a row of the stage has room for {most} "
            f"(config.{stage}.batch.samples_per_prompt)."
        )


def _nothing(found: Sequence[Pair], present: np.ndarray) -> Rows:
    return {}


def _margins(found: Sequence[Pair], present: np.ndarray) -> Rows:
    return {"rated_margins": np.asarray([pair.margin for pair in found], np.float32)}


def _labels(found: Sequence[Labelled], present: np.ndarray) -> Rows:
    return {"labels": np.asarray([[row.label] for row in found], bool)}


def _steps(found: Sequence[Stepwise], present: np.ndarray, slots: int) -> Rows:
    """Ends and labels of the steps, at their tokens."""
    ends = np.zeros((*present.shape, slots), bool)
    labels = np.zeros_like(ends)
    for row, into, said in zip(found, ends, labels, strict=True):
        places = np.array(row.ends) - 1
        into[0, places], said[0, places] = True, row.labels
    steps = np.full(len(found), ends.sum() / len(found), np.float32)
    return {"step_ends": ends, "step_labels": labels, "mean_steps": steps}


def ratings_of(found: Sequence[Scored], present: np.ndarray) -> Rows:
    """The scores of rows as the array `ratings` [B, K] f32, 0 where there is no completion."""
    ratings = np.zeros(present.shape, np.float32)
    for row, into in zip(found, ratings, strict=False):
        into[: len(row.scores)] = row.scores
    return {"ratings": ratings}


def _judge_pairs(scores: np.ndarray, lengths: np.ndarray, targets: Rows) -> dict[str, float]:
    kept = targets["present"].all(axis=1)
    return judged_pairs(*scores[kept].T, *lengths[kept].T)


def _judge_labels(scores: np.ndarray, lengths: np.ndarray, targets: Rows) -> dict[str, float]:
    kept = targets["present"][:, 0]
    return judged_labels(scores[kept, 0], targets["labels"][kept, 0])


def _judge_steps(scores: np.ndarray, lengths: np.ndarray, targets: Rows) -> dict[str, float]:
    return judged_steps(scores[:, 0], targets["step_labels"][:, 0], targets["step_ends"][:, 0])


def _judge_ratings(scores: np.ndarray, lengths: np.ndarray, targets: Rows) -> dict[str, float]:
    return judged_ratings(scores, targets["ratings"], targets["present"], lengths)
