"""Choosing among n samples of a prompt, and estimates of how good a choice among k would be.

NumPy only. Two rules hold everywhere: a truncated sample (`finished` False) is wrong and never
chosen, yet stays one of the n; an answer of None never wins. Ties go to the first sample.
"""

import math
from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

Answers = Sequence[Hashable | None]  # canonical, so that equal answers compare equal; None: missing


def count_correct(correct: ArrayLike, finished: ArrayLike | None = None) -> np.ndarray:
    """[..., n] bool verdicts -> [...] i64, the right samples; truncated ones are wrong."""
    correct = np.asarray(correct, bool)
    if finished is not None:
        correct = correct & np.asarray(finished, bool)
    return correct.sum(axis=-1)


def pass_at_k(correct_counts: ArrayLike, n: int, k: int) -> np.ndarray:
    """Probability that k of the n samples hold a right one (arXiv:2107.03374, eq. 1).

        1 - C(n - c, k) / C(n, k)  =  1 - product over i = n-c+1 .. n of (1 - k / i)

    The unbiased estimate of pass@k; the product neither overflows nor builds large integers.

    Args:
        correct_counts: [...] integers c in [0, n], right samples per problem.
        n: samples per problem, truncated ones included.
        k: size of the draw, in [1, n].

    Returns:
        [...] f64; exactly 0 for c = 0, and 1 where n - c < k.

    Raises:
        ValueError: if `k` or a count is out of range.
    """
    _check_draw(n, k)
    counts = np.asarray(correct_counts)
    if ((counts < 0) | (counts > n)).any():
        raise ValueError(f"correct_counts must lie in [0, {n}], got {counts.tolist()}.")
    i = np.arange(1, n + 1)
    # The factor i = k is 0 and settles the product; those below it are negative and could overflow.
    factors = np.maximum(1.0 - k / i, 0.0)
    return 1.0 - np.where(i > n - counts[..., None], factors, 1.0).prod(axis=-1)


def best_of_n(scores: ArrayLike, *, finished: ArrayLike | None = None) -> np.ndarray:
    """[..., n] scores -> [...] i64, the sample with the highest one.

    Args:
        scores: [..., n] float, n >= 1.
        finished: [..., n] bool; None: all are.

    Returns:
        Its index, -1 where no sample is finished.

    Raises:
        ValueError: if a score is NaN.
    """
    return _argmax(_scores(scores), finished)


def soft_best_of_n(
    scores: ArrayLike,
    *,
    temperature: float,
    rng: np.random.Generator,
    finished: ArrayLike | None = None,
) -> np.ndarray:
    """[..., n] scores -> [...] i64, a sample drawn with weight exp(score / temperature).

    Args:
        scores: [..., n] float, n >= 1.
        temperature: > 0, in the unit of the scores; towards 0 this is `best_of_n`.
        rng: source of the draw.
        finished: [..., n] bool; None: all are.

    Returns:
        Its index, -1 where no sample is finished.

    Raises:
        ValueError: if `temperature` is not positive or a score is NaN.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be finite and > 0, got {temperature}.")
    scores = _scores(scores)
    # The argmax of Gumbel noise plus logits is a draw from their softmax.
    return _argmax(scores / temperature + rng.gumbel(size=scores.shape), finished)


def best_at_k(
    scores: ArrayLike, correct: ArrayLike, k: int, *, finished: ArrayLike | None = None
) -> float:
    """Probability that the best of k of the n samples is right, by enumeration of all k-subsets.

    The sample with rank r (from 0, the highest score first) is the best of a subset that holds it
    and k - 1 of the n - 1 - r behind it:

        sum over r of correct_r C(n - 1 - r, k - 1) / C(n, k)

    Args:
        scores: [n] float.
        correct: [n] bool.
        k: size of the subsets, in [1, n].
        finished: [n] bool; truncated ones are drawn but never chosen. None: all are.

    Raises:
        ValueError: if `k` is out of range or a score is NaN.
    """
    scores = _scores(scores)
    n = len(scores)
    _check_draw(n, k)
    ended = np.ones(n, bool) if finished is None else np.asarray(finished, bool)
    # lexsort is stable: of equal scores the first sample comes first, truncated ones come last.
    order = np.lexsort((-scores, ~ended))
    right = (np.asarray(correct, bool) & ended)[order]
    subsets = [math.comb(n - 1 - rank, k - 1) for rank in np.flatnonzero(right).tolist()]
    return sum(subsets) / math.comb(n, k)


def best_of_n_kl_bound(n: ArrayLike) -> np.ndarray:
    """Upper bound on KL(best-of-n || samples): log n - (n - 1) / n, in nats.

    It is attained by a scorer without ties on a continuous distribution.

    Args:
        n: [...] integers >= 1.

    Returns:
        [...] f64; 0 for n = 1.

    Raises:
        ValueError: if an n is below 1.
    """
    n = np.asarray(n)
    if (n < 1).any():
        raise ValueError(f"n must be >= 1, got {n.tolist()}.")
    return np.log(n) - (n - 1) / n


def majority_vote(answers: Answers, *, finished: Sequence[bool] | None = None) -> Hashable | None:
    """The most frequent answer (self-consistency, arXiv:2203.11171); None if there is no answer.

    Args:
        answers: one per sample, in the order of ties.
        finished: one per sample; a truncated one has no vote. None: all are.
    """
    return weighted_vote(answers, [1.0] * len(answers), finished=finished)


def weighted_vote(
    answers: Answers, scores: Sequence[float], *, finished: Sequence[bool] | None = None
) -> Hashable | None:
    """The answer whose samples have the largest sum of scores; None if there is no answer.

    Args:
        answers: one per sample, in the order of ties.
        scores: one per sample, of any sign.
        finished: one per sample; a truncated one has no vote. None: all are.

    Raises:
        ValueError: if the lengths differ or a score is NaN.
    """
    if len(answers) != len(scores):
        raise ValueError(f"There are {len(answers)} answers and {len(scores)} scores.")
    sums: dict[Hashable, list[float]] = {}
    for answer, score in zip(_voters(answers, finished), _scores(scores).tolist(), strict=True):
        if answer is not None:
            sums.setdefault(answer, []).append(score)
    # fsum is exact, so that the order of samples makes or breaks no tie; max takes the first.
    return max(sums, key=lambda answer: math.fsum(sums[answer]), default=None)


def vote_is_correct(
    winner: Hashable | None,
    answers: Answers,
    correct: Sequence[bool],
    *,
    finished: Sequence[bool] | None = None,
) -> bool:
    """Whether the answer that won a vote is right; False for None.

    Args:
        winner: what `majority_vote` or `weighted_vote` of the same samples gave.
        answers: one per sample.
        correct: verdict per sample; those of equal answers of finished samples are equal.
        finished: one per sample; None: all are.
    """
    return winner is not None and bool(correct[_voters(answers, finished).index(winner)])


def majority_at_k(
    answers: Answers,
    correct: Sequence[bool],
    k: int,
    *,
    scores: Sequence[float] | None = None,
    finished: Sequence[bool] | None = None,
    draws: int = 1000,
    rng: np.random.Generator | None = None,
) -> float:
    """Probability that the vote of k of the n samples is right: the unbiased maj@k.

    The mean over all k-subsets if there are at most `draws`, else over so many random ones.
    Within a subset the samples keep their order.

    Args:
        answers: n of them.
        correct: verdict per sample; those of equal answers of finished samples are equal.
        k: size of the subsets, in [1, n].
        scores: what each vote counts; None: all the same, the majority.
        finished: one per sample; truncated ones are drawn but have no vote. None: all are.
        draws: how many subsets are looked at, at most.
        rng: source of the draws; not needed where all subsets are looked at.

    Returns:
        In [0, 1].

    Raises:
        ValueError: if `k` or `draws` is out of range, or draws need an `rng`.
    """
    n = len(answers)
    _check_draw(n, k)
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}.")
    subsets = combinations(range(n), k)
    if math.comb(n, k) > draws:
        if rng is None:
            raise ValueError(
                f"There are more than draws={draws} subsets of {k} of {n} samples: give an rng."
            )
        subsets = (np.sort(rng.choice(n, k, replace=False)) for _ in range(draws))
    voters = _voters(answers, finished)
    weights = [1.0] * n if scores is None else scores

    def is_correct(subset: Sequence[int]) -> bool:
        drawn = [voters[i] for i in subset]
        winner = weighted_vote(drawn, [weights[i] for i in subset])
        return vote_is_correct(winner, drawn, [correct[i] for i in subset])

    return float(np.mean([is_correct(subset) for subset in subsets]))


def _check_draw(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in [1, n], got k={k} and n={n}.")


def _voters(answers: Answers, finished: Sequence[bool] | None) -> list[Hashable | None]:
    """The answers, those of truncated samples taken away."""
    if finished is None:
        return list(answers)
    if len(answers) != len(finished):
        raise ValueError(f"There are {len(answers)} answers, but finished has {len(finished)}.")
    return [answer if done else None for answer, done in zip(answers, finished, strict=True)]


def _scores(scores: ArrayLike) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"Scores must be numbers, got NaN in {scores.tolist()}.")
    return scores


def _argmax(scores: np.ndarray, finished: ArrayLike | None) -> np.ndarray:
    """The first largest among the finished ones, -1 without any."""
    finished = np.ones(scores.shape, bool) if finished is None else np.asarray(finished, bool)
    if finished.shape != scores.shape:
        raise ValueError(f"finished has shape {finished.shape}, scores {scores.shape}.")
    # A finished sample may score -inf: it still comes before those that are not.
    highest = np.where(finished, scores, -np.inf).max(axis=-1, keepdims=True)
    best = finished & (scores == highest)
    return np.where(finished.any(axis=-1), best.argmax(axis=-1), -1)
