"""Which ids may be sampled: those that the tokenizer knows.

A model may have more rows than its tokenizer has ids (padding for the sake of speed), and ids may
have holes. Such a row is no text, and is never sampled unless a bias names it.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from rljax.sampling.distribution import TokenFilter


def samplable_ids(known: np.ndarray, vocab_size: int, ends: Iterable[int]) -> np.ndarray:
    """[V] bool, the rows of a model that a sampler may draw.

    Args:
        known: [ids] bool, True where an id is a token of the tokenizer.
        vocab_size: V, rows of the model.
        ends: ids that end a completion; they may always be drawn.
    """
    found = np.zeros(vocab_size, bool)
    found[: len(known)] = known[:vocab_size]
    found[[token for token in ends if token < vocab_size]] = True
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
