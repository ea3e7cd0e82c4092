"""What the rows of a stage's file are: read, put into a batch, counted, judged."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.training.update.rows import Rows


class RowKind(NamedTuple):
    """A kind of rows, of pairs or of other feedback.

    Attributes:
        read: a row of a file as ids: a reader of data/pairs.py or data/feedback.py.
        completions: the completions of a row.
        targets: (rows, present [B, K] bool) to what the rows say of K completions each, by the
            names of the family's arrays (objectives/arrays.py). `present` is False where a row has
            fewer completions or one is empty. Without rows: the shapes alone.
        usable: of these targets, [B] bool: the rows that teach something.
        chosen: of preferences, of the same, [B, K] bool: the completions that are to become more
            likely.
        judge: of reward models, (scores [B, K], or of steps [B, K, T]; lengths [B, K], targets) to
            the metrics of held-out rows.
    """

    read: Callable[..., Any]
    completions: Callable[[Any], Sequence[list[int]]]
    targets: Callable[[Sequence[Any], np.ndarray], Rows]
    usable: Callable[[Rows], np.ndarray]
    chosen: Callable[[Rows], np.ndarray] | None = None
    judge: Callable[[np.ndarray, np.ndarray, Rows], dict[str, float]] | None = None


def one_completion(row: Any) -> list[list[int]]:
    """The completions of a row that has one."""
    return [row.completion]


def any_present(targets: Rows) -> np.ndarray:
    """Rows with a completion."""
    return targets["present"].any(axis=1)


def all_present(targets: Rows) -> np.ndarray:
    """Rows with all completions: a pair with an empty side says nothing about the other."""
    return targets["present"].all(axis=1)
