"""Choices among samples, and estimates against enumeration."""

import math
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest

from rljax.sampling.selection import (
    best_at_k,
    best_of_n,
    best_of_n_kl_bound,
    count_correct,
    majority_at_k,
    majority_vote,
    pass_at_k,
    soft_best_of_n,
    vote_is_correct,
    weighted_vote,
)

# --- pass@k --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 4, 6])
def test_pass_at_k_is_the_mean_over_all_draws(n):
    correct = np.random.default_rng(0).random((5, n)) < 0.4
    for k in range(1, n + 1):
        draws = [[row[list(draw)].any() for draw in combinations(range(n), k)] for row in correct]
        np.testing.assert_allclose(
            pass_at_k(count_correct(correct), n, k), np.mean(draws, axis=1), rtol=1e-12
        )
    np.testing.assert_allclose(pass_at_k(count_correct(correct), n, 1), correct.mean(axis=1))


def test_pass_at_k_is_exact_at_its_ends_and_stable_for_many_samples():
    assert pass_at_k([0, 6], 6, 6).tolist() == [0.0, 1.0]
    assert pass_at_k(3, 6, 4) == 1.0  # four draws cannot miss three out of six
    n, k = 20_000, 5_000
    counts = np.array([0, 1, 3, n - k, n - k + 1, n])
    exact = [1 - math.comb(n - c, k) / math.comb(n, k) for c in counts.tolist()]
    np.testing.assert_allclose(pass_at_k(counts, n, k), exact, rtol=1e-10)


def test_pass_at_k_is_unbiased():
    """The mean over all outcomes of n samples is the chance that k fresh ones hold a right one."""
    p, n, k = 0.3, 5, 3
    binomial = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    assert binomial @ pass_at_k(range(n + 1), n, k) == pytest.approx(1 - (1 - p) ** k)


def test_truncated_samples_are_wrong_but_stay_in_n():
    correct, finished = [[True, True, False, False]], [[True, False, True, False]]
    assert count_correct(correct).tolist() == [2]
    assert count_correct(correct, finished).tolist() == [1]
    assert pass_at_k(count_correct(correct, finished), 4, 1).tolist() == [0.25]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1, 4, 5), "k=5 and n=4"),
        ((1, 4, 0), "k=0 and n=4"),
        (([1, 5], 4, 1), r"must lie in \[0, 4\], got \[1, 5\]"),
        ((-1, 4, 1), r"must lie in \[0, 4\]"),
    ],
)
def test_draws_that_cannot_be_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(*arguments)


# --- Best of n -----------------------------------------------------------------------------------


def test_best_of_n():
    assert best_of_n([[1.0, 3.0, 3.0], [-2.0, -3.0, -1.0]]).tolist() == [1, 2]
    finished = [[True, False, True], [False, False, False]]
    assert best_of_n([[1.0, 9.0, 0.0]] * 2, finished=finished).tolist() == [0, -1]
    assert best_of_n([-np.inf, 5.0, -np.inf], finished=[False, False, True]) == 2
    for choose in (best_of_n, lambda s: soft_best_of_n(s, temperature=1.0, rng=None)):
        with pytest.raises(ValueError, match="got NaN"):
            choose([0.0, np.nan])
    with pytest.raises(ValueError, match=r"finished has shape \(2,\), scores \(3,\)"):
        best_of_n([1.0, 2.0, 3.0], finished=[True, False])


def test_soft_best_of_n_draws_from_the_softmax():
    scores, rng = np.array([0.3, -1.0, 2.0, 1.0]), np.random.default_rng(0)
    finished = np.array([True, True, True, False])
    draws = 20_000
    many = np.tile(scores, (draws, 1))
    chosen = soft_best_of_n(many, temperature=2.0, rng=rng, finished=np.tile(finished, (draws, 1)))
    weights = np.where(finished, np.exp(scores / 2.0), 0.0)
    expected = weights / weights.sum()
    shares = np.bincount(chosen, minlength=4) / draws
    assert (np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / draws)).all()


def test_a_cold_soft_choice_is_the_best_and_nothing_to_choose_from_is_minus_one():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 8))
    cold = soft_best_of_n(scores, temperature=1e-6, rng=rng)
    np.testing.assert_array_equal(cold, best_of_n(scores))
    assert soft_best_of_n([1.0, 2.0], temperature=1.0, rng=rng, finished=[False, False]) == -1
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="temperature must be finite and > 0"):
            soft_best_of_n(scores, temperature=temperature, rng=rng)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_the_kl_bound_is_approached_from_below(n):
    """Uniform choice among m outcomes of distinct scores; the best of n has a known law."""
    gaps = []
    for m in (10, 100, 10_000):
        ranks = np.arange(1, m + 1)
        best = (ranks / m) ** n - ((ranks - 1) / m) ** n
        gaps.append(best_of_n_kl_bound(n) - (best * np.log(best * m)).sum())
    assert (np.array(gaps) > -1e-9).all() and gaps[-1] < 1e-2
    assert best_of_n_kl_bound([1, 4]) == pytest.approx([0.0, math.log(4) - 0.75])
    with pytest.raises(ValueError, match="n must be >= 1"):
        best_of_n_kl_bound(0)


# --- Votes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers, winner",
    [
        (["a", "b", "b"], "b"),
        (["b", "a", "a", "b"], "b"),  # a tie: the first to appear
        (["a", "b", "b", "a"], "a"),
        ([None, None, None, "a"], "a"),
        ([None, None], None),
        ([], None),
        ([0, 1, 0, None], 0),  # a falsy answer is an answer
    ],
)
def test_majority(answers, winner):
    assert majority_vote(answers) == winner
    assert weighted_vote(answers, [0.5] * len(answers)) == winner


def test_weighted_vote():
    assert weighted_vote(["a", "b", "b"], [5.0, 2.0, 2.0]) == "a"
    assert weighted_vote(["a", "b", "b"], [-5.0, -2.0, -2.0]) == "b"
    assert weighted_vote([None, "a"], [9.0, -1.0]) == "a"
    # Equal sums tie, whatever the order in which floats are added up.
    assert weighted_vote(["a", "b", "a", "b", "a", "b"], [0.1, 0.3, 0.2, 0.2, 0.3, 0.1]) == "a"
    assert weighted_vote(["b", "a", "a", "b", "a", "b"], [0.3, 0.1, 0.2, 0.2, 0.3, 0.1]) == "b"
    with pytest.raises(ValueError, match="2 answers and 1 scores"):
        weighted_vote(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="got NaN"):
        weighted_vote(["a"], [float("nan")])


def test_truncated_samples_have_no_vote():
    answers, finished = ["a", "a", "b"], [True, False, True]
    assert majority_vote(answers) == "a"
    assert majority_vote(["b", "a", "a"], finished=[True, False, True]) == "b"
    assert weighted_vote(answers, [1.0, 9.0, 2.0], finished=finished) == "b"
    assert majority_vote(answers, finished=[False] * 3) is None
    with pytest.raises(ValueError, match="3 answers, but finished has 2"):
        majority_vote(answers, finished=[True, True])


def test_whether_a_vote_is_right_is_read_off_a_finished_sample():
    answers, correct = ["a", "b", "a"], [False, False, True]
    assert not vote_is_correct("a", answers, correct)
    assert vote_is_correct("a", answers, correct, finished=[False, True, True])
    assert not vote_is_correct("b", answers, correct)
    assert not vote_is_correct(None, answers, correct)


@pytest.mark.parametrize("n", [1, 5])
def test_best_at_k_is_the_mean_over_all_subsets(n):
    rng = np.random.default_rng(n)
    scores = rng.integers(0, 3, n).astype(float)  # with ties
    correct, finished = rng.random(n) < 0.5, rng.random(n) < 0.7
    for k in range(1, n + 1):
        right = []
        for draw in map(list, combinations(range(n), k)):
            chosen = int(best_of_n(scores[draw], finished=finished[draw]))
            right.append(chosen >= 0 and correct[draw][chosen])
        found = best_at_k(scores, correct, k, finished=finished)
        assert found == pytest.approx(np.mean(right), abs=1e-12)
    with pytest.raises(ValueError, match="k must lie"):
        best_at_k(scores, correct, n + 1)


def test_the_best_of_n_without_ties_wins_n_of_n_plus_one():
    """Over uniform scores the best of k is above a threshold t with chance 1 - t^k."""
    n = 400
    scores = (np.arange(n) + 0.5) / n
    for k in (1, 2, 8):
        above = [best_at_k(scores, scores > t, k) for t in scores]
        assert np.mean(above) == pytest.approx(k / (k + 1), abs=3e-3)


# --- maj@k ---------------------------------------------------------------------------------------


def test_majority_at_k_by_hand():
    # Of the six pairs of a, b, a, c (a is right), only (b, c) and (b, a) are not won by a.
    answers, correct = ["a", "b", "a", "c"], [True, False, True, False]
    assert majority_at_k(answers, correct, 2) == pytest.approx(4 / 6)
    assert majority_at_k(answers, correct, 1) == 0.5
    assert majority_at_k(answers, correct, 4) == 1.0
    assert majority_at_k([None] * 3, [False] * 3, 2) == 0.0


def test_votes_of_subsets_may_have_weights():
    answers, correct, weights = ["a", "b", "b"], [True, False, False], [5.0, 1.0, 2.0]
    assert majority_at_k(answers, correct, 3) == 0.0
    assert majority_at_k(answers, correct, 3, scores=weights) == 1.0
    assert majority_at_k(answers, correct, 2, scores=weights) == pytest.approx(2 / 3)


def test_majority_at_k_is_unbiased():
    """Averaged over all n samples of a known law it is the law of a vote among k of them."""
    law = {"right": 0.35, "wrong": 0.4, None: 0.25}

    def mean(size, value):
        return sum(
            math.prod(law[answer] for answer in answers) * value(answers)
            for answers in product(law, repeat=size)
        )

    for k in (1, 2, 3):
        exact = mean(k, lambda answers: majority_vote(answers) == "right")
        estimate = mean(
            5, lambda answers, k=k: majority_at_k(answers, [a == "right" for a in answers], k)
        )
        assert estimate == pytest.approx(exact)


def test_random_draws_estimate_the_mean_over_all_subsets():
    answers, correct = list("aabbbccdaabc"), [letter == "a" for letter in "aabbbccdaabc"]
    exact = majority_at_k(answers, correct, 5)
    draws = 500
    rng = np.random.default_rng(0)
    estimate = majority_at_k(answers, correct, 5, draws=draws, rng=rng)
    assert 0.2 < exact < 0.8 and estimate != exact
    assert abs(estimate - exact) < 5 * math.sqrt(exact * (1 - exact) / draws)
    again = majority_at_k(answers, correct, 5, draws=draws, rng=np.random.default_rng(0))
    assert estimate == again


def test_truncated_samples_are_drawn_without_a_vote():
    answers, correct, finished = ["a", "a", "b"], [True, True, False], [True, False, True]
    # Pairs (0, 1), (0, 2), (1, 2): a, a, and b as the truncated a does not vote.
    assert majority_at_k(answers, correct, 2, finished=finished) == pytest.approx(2 / 3)
    assert majority_at_k(answers, correct, 1, finished=finished) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(k=4), "k=4 and n=3"),
        (dict(k=2, draws=0), "draws must be >= 1, got 0"),
        (dict(k=2, draws=2), "more than draws=2 subsets of 2 of 3 samples: give an rng"),
    ],
)
def test_subsets_that_cannot_be_drawn_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        majority_at_k(["a", "b", "c"], [True] * 3, **settings)


def test_no_jax_is_needed():
    code = "import sys, rljax.sampling.selection; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
