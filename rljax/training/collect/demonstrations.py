"""Worked demonstrations of problems, as completions."""

from collections.abc import Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.encode import encode_completions
from rljax.training.run.context import Context, Record

COLUMNS = ("demonstration", "completion")  # of generated problems, of files


def demonstrations(
    context: Context, stage: Stage, records: Sequence[Record]
) -> tuple[np.ndarray, np.ndarray]:
    """The demonstration of each problem: tokens [B, T] i32 and mask [B, T] bool, with eos.

    Raises:
        ValueError: for a problem without one, or one longer than a completion may be.
    """
    return encode_completions(
        demonstration_texts(stage, records),
        context.tokenizer,
        max_new_tokens=stage.max_new_tokens,
        field=f"config.{stage.name}.sampling.max_new_tokens",
    )


def demonstration_scores(
    context: Context, stage: Stage, records: Sequence[Record], mask: np.ndarray
) -> np.ndarray:
    """What the run's verifier says of the demonstrations, [B] f32; `mask` is theirs, [B, T]."""
    scores = context.scorer.score(
        context.prompt_texts(records),
        demonstration_texts(stage, records),
        context.references(records),
        mask.sum(axis=1).tolist(),
    )
    return scores.total


def demonstration_texts(stage: Stage, records: Sequence[Record]) -> list[str]:
    """The demonstration of each problem.

    Raises:
        ValueError: for a problem without one.
    """
    texts = []
    for place, record in enumerate(records):
        column = next((name for name in COLUMNS if record.get(name)), None)
        if column is None:
            raise ValueError(
                f"Problem {record.get('id', place)} has no demonstration, a column named "
                f"{' or '.join(map(repr, COLUMNS))}, which method "
                f"{stage.objective.method.name!r} learns from (config.{stage.name}.method, "
                "config.data)."
            )
        texts.append(record[column])
    return texts
