"""Statistics over seeds: hand values, scipy's own, and what holds on simulated data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rljax.comparison import statistics
from rljax.comparison.statistics import Estimate

X = np.array([0.774, 0.643, 0.874, 0.501, 0.784, 0.737, 0.927, 0.850])
Y = np.array([0.494, 0.555, 0.632, 0.625, 0.885, 0.525, 0.764, 0.838])


@pytest.mark.parametrize(
    "count, rank",
    [(1, None), (5, None), (6, 1), (8, 1), (9, 2), (12, 3), (16, 4), (20, 6)],
)
def test_the_interval_of_a_median_lies_between_two_order_statistics(count, rank):
    assert statistics.interval_rank(count) == rank
    scores = np.random.default_rng(count).normal(size=count)
    found = statistics.median(scores)
    assert found.value == pytest.approx(np.median(scores))
    known = stats.quantile_test(scores, p=0.5).confidence_interval(0.95)
    np.testing.assert_array_equal(found[1:], [known.low, known.high])  # NaN where there is none
    if rank is not None:
        assert found[1:] == (np.sort(scores)[rank - 1], np.sort(scores)[-rank])
        # One order statistic further in would hold too rarely.
        missed = 2 * stats.binom.cdf([rank - 1, rank], count, 0.5)
        assert missed[0] <= 0.05 < missed[1]


def collapsing(rng, shape, share=0.15):
    """Accuracies around 0.4; in this share of runs around 0.05."""
    good, bad = rng.normal(0.4, 0.02, shape), rng.normal(0.05, 0.02, shape)
    return np.where(rng.random(shape) < share, bad, good)


def held(low, high, truth):
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize("count", [8, 12])
def test_intervals_hold_where_seeds_collapse(count):
    """8 seeds of which 15 % collapse: 99 %, and 73 % of Student's interval of the mean."""
    rng = np.random.default_rng(0)
    scores = collapsing(rng, (count, 20_000))
    truth = float(np.median(collapsing(rng, 1_000_000)))
    band = statistics.median_band(scores)
    assert held(band.low, band.high, truth) > 0.945
    if count == 8:
        assert held(band.low, band.high, truth) > 0.985
        mean, error = scores.mean(0), scores.std(0, ddof=1) / math.sqrt(count)
        reach = stats.t.ppf(0.975, count - 1) * error
        assert held(mean - reach, mean + reach, 0.85 * 0.4 + 0.15 * 0.05) < 0.8


def test_intervals_of_differences_hold_where_one_method_collapses():
    rng = np.random.default_rng(1)
    shape = (8, 20_000)
    differences = collapsing(rng, shape) - rng.normal(0.38, 0.02, shape)
    many = collapsing(rng, 1_000_000) - rng.normal(0.38, 0.02, 1_000_000)
    band = statistics.median_band(differences)
    assert held(band.low, band.high, float(np.median(many))) > 0.985


def test_signed_ranks_are_those_of_scipy():
    found = statistics.signed_rank_test(X - Y)
    assert found.p == pytest.approx(stats.wilcoxon(X, Y, method="exact").pvalue)
    assert found.sign > 0 and statistics.signed_rank_test(Y - X).sign < 0


def test_signed_ranks_by_enumeration_with_ties_and_zeros():
    d = np.array([0.1, 0.1, -0.1, 0.2, 0.0, 0.3, 0.3])
    ranks = stats.rankdata(np.abs(d)) * (d != 0)
    signs = np.array(list(itertools.product([-1, 1], repeat=7)))
    sums, own = signs @ ranks, float(np.sign(d) @ ranks)
    expected = 2 * min((sums >= own - 1e-9).mean(), (sums <= own + 1e-9).mean())
    assert statistics.signed_rank_test(d).p == pytest.approx(expected)


def test_rank_sums_are_those_of_scipy():
    found = statistics.rank_sum_test(X, Y[:6])
    assert found.p == pytest.approx(stats.mannwhitneyu(X, Y[:6], method="exact").pvalue)
    assert found.sign > 0


def test_equal_scores_are_no_difference_and_what_is_not_finite_says_nothing():
    assert statistics.signed_rank_test(np.zeros(8)) == (1.0, 0.0)
    assert statistics.rank_sum_test(np.ones(8), np.ones(8)) == (1.0, 0.0)
    assert math.isnan(statistics.signed_rank_test(np.array([0.1, math.nan])).p)
    assert math.isnan(statistics.rank_sum_test(np.array([math.inf]), np.ones(3)).p)


def test_holm_by_hand():
    found = statistics.holm([0.01, 0.04, math.nan, 0.03, 0.5])
    # 4 tests: 0.01 x 4, then 0.03 x 3 = 0.09, 0.04 x 2 = 0.08 but not below 0.09, 0.5.
    np.testing.assert_allclose(found, [0.04, 0.09, math.nan, 0.09, 0.5])
    np.testing.assert_allclose(statistics.holm([0.6, 0.7]), [1.0, 1.0])
    assert statistics.holm([]).shape == (0,)


@pytest.mark.slow
def test_one_of_many_verdicts_is_wrong_in_at_most_5_percent_of_comparisons():
    """10 methods that are like the baseline, 10 seeds, 15 % of which collapse."""
    rng, wrong, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        base, others = collapsing(rng, 10), collapsing(rng, (10, 10))
        p = [statistics.signed_rank_test(other - base).p for other in others]
        wrong += bool((statistics.holm(p) <= 0.05).any())
    assert wrong / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize(
    "x, y, chance",
    [
        ([3, 4, 5], [0, 1, 2], 1.0),
        ([0, 1, 2], [3, 4, 5], 0.0),
        ([1, 2, 3], [1, 2, 3], 0.5),
        ([2, 2], [2, 2, 2], 0.5),  # ties count half
        ([1, 3], [2], 0.5),
        ([1, 3, 3], [2], 2 / 3),
    ],
)
def test_chance_of_improvement_by_hand(x, y, chance):
    x, y = np.array(x, float), np.array(y, float)
    found = statistics.probability_of_improvement(x, y)
    assert found == pytest.approx(chance)
    assert found == pytest.approx(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))


def test_the_chance_of_improvement_is_that_of_rliable():
    assert statistics.probability_of_improvement(X, Y) == pytest.approx(0.703125)


def test_bands_leave_gaps():
    values = np.random.default_rng(1).normal(size=(8, 3))
    values[2, 1] = np.nan
    band = statistics.median_band(values)
    np.testing.assert_allclose(
        band.middle, [np.median(values[:, 0]), np.nan, np.median(values[:, 2])]
    )
    assert np.isnan(band.low[1]) and np.isnan(band.high[1])
    for point in (0, 2):
        alone = statistics.median(values[:, point])
        assert (band.low[point], band.high[point]) == alone[1:]


def test_few_seeds_and_values_that_are_not_finite_have_no_interval():
    for scores in ([0.5], [0.5] * 5, [0.5, math.nan], [math.inf, 1.0]):
        found = statistics.median(np.array(scores))
        assert math.isnan(found.low) and math.isnan(found.high)
    assert statistics.median(np.full(8, 0.25)) == Estimate(0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    "p, sign, said",
    [
        (0.05, 1.0, "better"),
        (0.05, -1.0, "worse"),
        (0.051, 1.0, "not distinguishable"),
        (0.01, 0.0, "not distinguishable"),
        (math.nan, 1.0, "not distinguishable"),
    ],
)
def test_the_verdict_follows_the_corrected_p_value(p, sign, said):
    assert statistics.verdict(p, sign) == said


def test_how_many_seeds_are_enough():
    assert [statistics.enough_seeds(n) for n in (1, 5, 6, 8)] == [False, False, True, True]
    assert [statistics.enough_seeds(n, n) for n in (2, 3, 4)] == [False, False, True]
    # By enumeration: of all ways to split 4 + 4 different scores, 2 separate the two methods.
    ways = [set(chosen) for chosen in itertools.combinations(range(8), 4)]
    apart = sum(chosen in ({0, 1, 2, 3}, {4, 5, 6, 7}) for chosen in ways)
    assert apart / len(ways) == 2 / math.comb(8, 4) <= 0.05
    # 2 / 2^8 = 0.0078 is at most 0.05 / 6, and 11 seeds are needed for 29 verdicts.
    assert [statistics.enough_seeds(8, tests=n) for n in (6, 7)] == [True, False]
    assert [statistics.least_seeds(n) for n in (1, 6, 29)] == [6, 8, 11]


def test_the_detectable_difference_is_found_in_four_of_five_cases():
    assert statistics.detectable(8, 7) == math.inf
    size, rng = statistics.detectable(10, 3), np.random.default_rng(7)
    found = [
        statistics.signed_rank_test(rng.normal(size, 1.0, 10)).p <= 0.05 / 3 for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
    # More verdicts need a larger difference, more seeds a smaller one.
    assert statistics.detectable(12, 29) > statistics.detectable(12) > statistics.detectable(16)
