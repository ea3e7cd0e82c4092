"""Samples that say the same again and again: how a policy that collapses looks."""

from collections.abc import Sequence

import numpy as np

# Tokens of a phrase, and of the shortest sample that is judged.
PHRASE, SHORTEST = 4, 24

# Share of phrases that were there before, from which a sample is degenerate.
REPEATED = 0.8


def repeated_share(tokens: Sequence[int] | np.ndarray) -> float:
    """The share of a sample's phrases of four tokens that it had written before.

    Args:
        tokens: T ids.

    Returns:
        In [0, 1]; 0 for a sample of fewer than 24 tokens.
    """
    ids = np.asarray(tokens)
    if len(ids) < SHORTEST:
        return 0.0
    phrases = np.lib.stride_tricks.sliding_window_view(ids.astype(np.uint64), PHRASE)
    names = phrases @ (np.uint64(0x9E3779B97F4A7C15) ** np.arange(PHRASE, dtype=np.uint64))
    return 1.0 - len(np.unique(names)) / len(names)


def degenerate_share(samples: Sequence[Sequence[int]]) -> float:
    """The share of samples in which more than 80 % of the phrases are repeated.

    Args:
        samples: ids of each.
    """
    return float(np.mean([repeated_share(tokens) > REPEATED for tokens in samples] or [0.0]))
