"""The rows of a batch, in any layout, as sequences of tokens."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from rljax.training.update.rows import Rows, per_sample

# What the share of learned ends is called in the metrics.
END_SHARE = "end_learned_share"


class Sequence(NamedTuple):
    """One example of a batch, without padding. Both are [S]."""

    tokens: np.ndarray  # i32
    learned: np.ndarray  # bool


def sequences(batch: Rows) -> Iterator[Sequence]:
    """The sequences of a batch, in its order.

    Args:
        batch: of a family: separate rows, group rows or packed rows (update/rows.py,
            data/packing.py), with any leading axes.
    """
    mask, tokens, segments = (batch[name] for name in ("mask", "tokens", "segment_ids"))
    if mask.ndim == 3 and tokens.ndim == 2:
        yield from _of_groups(tokens, segments, mask)
        return
    tokens, segments, mask = map(per_sample, (tokens, segments, mask))
    before = tokens.shape[1] - mask.shape[1]
    for row, members, targets in zip(tokens, segments, mask, strict=True):
        learned = np.concatenate([np.zeros(before, bool), targets])
        for segment in range(1, members.max(initial=0) + 1):
            own = members == segment
            yield Sequence(row[own], learned[own])


def _of_groups(tokens: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Iterator[Sequence]:
    """A prompt with each of its completions."""
    samples, length = mask.shape[1:]
    before = tokens.shape[1] - samples * length
    for row, present, targets in zip(tokens, segments > 0, mask, strict=True):
        prompt = row[:before][present[:before]]
        completions = row[before:].reshape(samples, length)
        written = present[before:].reshape(samples, length)
        for own, kept, learned in zip(completions, written, targets, strict=True):
            yield Sequence(
                np.concatenate([prompt, own[kept]]),
                np.concatenate([np.zeros(len(prompt), bool), learned[kept]]),
            )


def end_learned_share(batch: Rows, ends: Collection[int]) -> float:
    """The share of the sequences that end with an end token which is learned.

    Args:
        batch: see `sequences`; sequences of which nothing is learned do not count.
        ends: ids that end a completion.

    Returns:
        In [0, 1]; 1 for an empty batch.
    """
    found = [
        bool(one.learned[-1]) and int(one.tokens[-1]) in ends
        for one in sequences(batch)
        if one.learned.any()
    ]
    return float(np.mean(found or [1.0]))
