"""How often the choice among k of n samples is right: the mean over subsets of each problem."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from rljax.rewards.answers import voting_answers
from rljax.sampling.selection import best_at_k, count_correct, majority_at_k, pass_at_k

# Subsets of a problem's samples that a vote is counted on, at most.
DRAWS = 200


class Candidates(NamedTuple):
    """n samples of a problem. Lists and arrays of n."""

    texts: Sequence[str]
    correct: np.ndarray  # bool
    finished: np.ndarray  # bool
    scores: np.ndarray | None = None  # f64, of a model


def right_choices(
    strategy: str, problems: Sequence[Candidates], k: int, *, seed: int
) -> np.ndarray:
    """[P] f64, how likely the choice among k samples of each problem is right.

    strategy        the answer is
    pass            right if any sample is: what a perfect verifier would choose
    vote            the most frequent one
    weighted_vote   the one with the largest sum of sigmoid(score)
    best_of_n       that of the highest score

    Args:
        strategy: one of these.
        problems: with n >= k samples each, and scores where the strategy reads some.
        k: the budget.
        seed: of the subsets, where there are more than `DRAWS`.
    """
    chosen: Callable[[Candidates], float]
    if strategy == "pass":

        def chosen(one: Candidates) -> float:
            right = count_correct(one.correct, one.finished)
            return float(pass_at_k(right, len(one.texts), k))

    elif strategy == "best_of_n":

        def chosen(one: Candidates) -> float:
            return best_at_k(one.scores, one.correct, k, finished=one.finished)

    else:

        def chosen(one: Candidates) -> float:
            weighted = strategy == "weighted_vote"
            return majority_at_k(
                voting_answers(one.texts),
                one.correct.tolist(),
                k,
                scores=special.expit(one.scores).tolist() if weighted else None,
                finished=one.finished.tolist(),
                draws=DRAWS,
                rng=np.random.default_rng(seed),
            )

    return np.array([chosen(one) for one in problems])
