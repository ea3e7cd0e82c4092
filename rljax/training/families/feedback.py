"""What reward models learn from: completions of a prompt, and what is said of them.

Which rows a stage reads follows from the arrays that its loss names (`REWARD_ARRAYS`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from rljax.training.pair_evaluation.scores import (
    judged_labels,
    judged_pairs,
    judged_ratings,
    judged_steps,
)
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows


class Feedback(NamedTuple):
    """A kind of rows.

    Attributes:
        read: a row of a file as ids: a reader of data/pairs.py or data/feedback.py.
        completions: the completions of a row.
        targets: what rows say of K completions each, by the names of `REWARD_ARRAYS`.
        usable: of these targets, [B] bool: the rows that teach something.
        judge: (scores [B, K], or of steps [B, K, T]; lengths [B, K], targets) to the metrics of
            held-out rows.
    """

    read: Callable[..., Any]
    completions: Callable[[Any], Sequence[list[int]]]
    targets: Callable[[Sequence[Any], int], Rows]
    usable: Callable[[Rows], np.ndarray]
    judge: Callable[[np.ndarray, np.ndarray, Rows], dict[str, float]]


def feedback_of(stage: Stage) -> Feedback:
    """The rows that a stage's loss learns from."""
    inputs = stage.objective.inputs
    if "step_labels" in inputs:
        read = functools.partial(stepwise_of, separator=stage.data["step_separator"])
        targets = functools.partial(_steps, slots=stage.data["max_completion_tokens"])
        return Feedback(read, _one, targets, _any_present, _judge_steps)
    if "good_logprobs" in inputs:
        read = functools.partial(_read_asked, question=stage.data["question"])
        return Feedback(read, _one, _labels, _any_present, _judge_labels)
    if "labels" in inputs:
        return Feedback(labelled_of, _one, _labels, _any_present, _judge_labels)
    if "ratings" in inputs:
        ranks = stage.objective.choices["reward_loss"] in RANKINGS
        read = functools.partial(
            read_scored,
            at_least=2 if ranks else 1,
            most=completions_per_row(stage),
            stage=stage.name,
        )
        usable = _compared if ranks else _any_present
        return Feedback(read, lambda row: row.completions, ratings_of, usable, _judge_ratings)
    rated = "rated_margins" in inputs
    read, targets = (_read_rated, _margins) if rated else (pair_of, _nothing)
    return Feedback(read, lambda row: row.sides, targets, _all_present, _judge_pairs)


def completions_per_row(stage: Stage) -> int:
    """K: the completions of a row, where a file may have fewer."""
    return stage.sequences_together(shared=False)


def feedback_rows(context: Context, stage: Stage, found: Sequence[Any]) -> tuple[Rows, Rows]:
    """Rows of a file as rows of a batch, and what is said of them.

    Args:
        context: of the stage.
        stage: of the reward family.
        found: what `Feedback.read` makes of B rows.

    Returns:
        The rows (training/update/rows.py), K completions of each; and `targets`, with `present`
        [B, K] bool, False where a row has fewer completions or one is empty.
    """
    kind, count = feedback_of(stage), completions_per_row(stage)
    answers, prompts = [kind.completions(row) for row in found], [row.prompt for row in found]
    rows, present = ragged_rows(context, stage, prompts, answers, count)
    return rows, kind.targets(found, count) | {"present": present}


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


def _any_present(targets: Rows) -> np.ndarray:
    return targets["present"].any(axis=1)


def _all_present(targets: Rows) -> np.ndarray:
    """A pair with an empty side says nothing about the other."""
    return targets["present"].all(axis=1)


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


def check_room(count: int, most: int, stage: str, where: str) -> None:
    """Raises ValueError for more completions than a row of a batch has room for."""
    if count > most:
        raise ValueError(
            f"{where} has {count} completions, and a row of the stage has room for {most} "
            f"(config.{stage}.batch.samples_per_prompt)."
        )


def _one(row: Labelled | Stepwise) -> list[list[int]]:
    return [row.completion]


def _nothing(found: Sequence[Pair], count: int) -> Rows:
    return {}


def _margins(found: Sequence[Pair], count: int) -> Rows:
    return {"rated_margins": np.asarray([pair.margin for pair in found], np.float32)}


def _labels(found: Sequence[Labelled], count: int) -> Rows:
    return {"labels": np.asarray([[row.label] for row in found], bool)}


def _steps(found: Sequence[Stepwise], count: int, slots: int) -> Rows:
    """Ends and labels of the steps, at their tokens."""
    ends = np.zeros((len(found), count, slots), bool)
    labels = np.zeros_like(ends)
    for row, into, said in zip(found, ends, labels, strict=True):
        places = np.array(row.ends) - 1
        into[0, places], said[0, places] = True, row.labels
    steps = np.full(len(found), ends.sum() / len(found), np.float32)
    return {"step_ends": ends, "step_labels": labels, "mean_steps": steps}


def ratings_of(found: Sequence[Scored], count: int) -> Rows:
    """The scores of rows as the array `ratings` [B, K] f32, 0 where there is no completion."""
    ratings = np.zeros((len(found), count), np.float32)
    for row, into in zip(found, ratings, strict=True):
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
