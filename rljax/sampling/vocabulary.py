"""Which ids may be sampled: those that the tokenizer knows.

A model may have more rows than its tokenizer has ids (padding for the sake of speed), and ids may
have holes. Such a row is no text, and is never sampled unless a bias names it.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rljax.sampling.distribution import TokenFilter


def samplable_ids(tokenizer: Any, vocab_size: int, stop_tokens: Iterable[int] = ()) -> np.ndarray:
    """[V] bool, the rows of a model that a sampler may draw.

    Args:
        tokenizer: its attribute `text_ids` has the ids that are text; without it, all of its ids.
        vocab_size: V, rows of the model.
        stop_tokens: that end a completion; may be drawn, as the tokenizer's pad, bos and eos may.
    """
    text_ids: Sequence[int] | None = getattr(tokenizer, "text_ids", None)
    known = range(tokenizer.vocab_size) if text_ids is None else text_ids
    special = (getattr(tokenizer, name) for name in ("pad_id", "bos_id", "eos_id"))
    ids = [*known, *(token for token in special if token is not None), *stop_tokens]
    ids = np.asarray(ids, np.int64)
    found = np.zeros(vocab_size, bool)
    found[ids[(ids >= 0) & (ids < vocab_size)]] = True
    return found


def text_only(token_filter: TokenFilter, samplable: np.ndarray) -> TokenFilter:
    """The filter under which ids without a text never come; the same one where all have one.

    Args:
        token_filter: of a stage or a request.
        samplable: [V] bool.
    """
    edges = np.flatnonzero(np.diff(~samplable, prepend=False, append=False))
    ranges = tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))
    return token_filter if not ranges else dataclasses.replace(token_filter, textless=ranges)
