"""Worked demonstrations of problems, as completions."""

from collections.abc import Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.encode import encode_completions
from rljax.training.context import Context, Record

COLUMNS = ("demonstration", "completion")  # of generated problems, of files


def demonstrations(
    context: Context, stage: Stage, records: Sequence[Record]
) -> tuple[np.ndarray, np.ndarray]:
    """The demonstration of each problem: tokens [B, T] i32 and mask [B, T] bool, with eos.

    Raises:
        ValueError: for a problem without one, or one longer than a completion may be.
    """
    field = f"config.{stage.name}.sampling.max_new_tokens"
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
    return encode_completions(
        texts, context.tokenizer, max_new_tokens=stage.max_new_tokens, field=field
    )
