"""Statistics over seeds: hand values, definitions written out, coverage on simulated data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rljax.comparison import statistics
from rljax.comparison.statistics import Estimate, Options

# Scores of two methods, 8 seeds by 2 tasks, and what rliable 1.2.0 (with arch 7.2, pandas 2)
# says about them: 50 000 resamples for the averages, 20 000 for the chance on the first task.
X = np.array(
    [
        *([0.774, 0.701], [0.643, 0.752], [0.874, 0.614], [0.501, 0.588]),
        *([0.784, 0.807], [0.737, 0.590], [0.927, 0.704], [0.850, 0.848]),
    ]
)
Y = np.array(
    [
        *([0.494, 0.825], [0.555, 0.437], [0.632, 0.592], [0.625, 0.666]),
        *([0.885, 0.318], [0.525, 0.564], [0.764, 0.537], [0.838, 0.580]),
    ]
)
PLAIN = Options(stretched=False)
RLIABLE = {
    "interquartile_mean": Estimate(0.73775, 0.664125, 0.80125),
    "mean": Estimate(0.730875, 0.674375, 0.7834375),
    "probability_of_improvement": Estimate(0.703125, 0.421875, 0.953125),
}


@pytest.mark.parametrize(
    "scores, iqm",
    [
        ([0, 1, 2, 3, 4, 5, 6, 100], 3.5),  # the middle four
        ([9, 1, 5], 5.0),  # a quarter of three is less than one: nothing is cut
        ([1, 2, 3, 4, 50], 3.0),  # one on either side
        ([0.25], 0.25),
    ],
)
def test_interquartile_mean_of_known_scores(scores, iqm):
    found = statistics.estimate(np.array(scores, float), statistics.interquartile_mean)
    assert found.value == pytest.approx(iqm)


def test_interquartile_mean_pools_the_tasks_before_cutting():
    pooled = sorted([*X[:, 0], *X[:, 1]])
    assert statistics.estimate(X, statistics.interquartile_mean).value == pytest.approx(
        sum(pooled[4:12]) / 8
    )


@pytest.mark.parametrize("name", ["interquartile_mean", "mean"])
def test_plain_stratified_percentiles_are_those_of_rliable(name):
    found = statistics.estimate(X, getattr(statistics, name), PLAIN)
    assert found.value == pytest.approx(RLIABLE[name].value)
    # Quantiles of 5000 resamples scatter by about 2 % of the interval's width.
    np.testing.assert_allclose(found[1:], RLIABLE[name][1:], atol=0.005)


def test_the_chance_of_improvement_is_that_of_rliable():
    wanted = RLIABLE["probability_of_improvement"]
    found = statistics.probability_of_improvement(X[:, 0], Y[:, 0], PLAIN)
    assert found.value == pytest.approx(wanted.value)
    np.testing.assert_allclose(found[1:], wanted[1:], atol=1 / 64)  # of 64 pairs one more or less


def test_tasks_are_resampled_apart():
    # A task that gives all seeds the same score adds nothing to the spread of the other.
    scores = np.stack([np.arange(8.0), np.full(8, 3.5)], 1)
    both = statistics.estimate(scores, options=PLAIN)
    alone = statistics.estimate(scores[:, 0], options=PLAIN)
    assert both.value == pytest.approx(3.5)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)
    # Rows drawn together would cancel here, and give an interval of width 0.
    mirrored = np.stack([np.arange(8.0), 7 - np.arange(8.0)], 1)
    assert statistics.estimate(mirrored).high > 4.0


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
    assert found.value == pytest.approx(chance)
    pairs = [float(a > b) + 0.5 * float(a == b) for a, b in itertools.product(x, y)]
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    u = stats.mannwhitneyu(x, y).statistic
    assert found.value == pytest.approx(u / (len(x) * len(y)))
    if chance in (0.0, 1.0):
        assert found.low == found.high == chance


def test_a_small_bootstrap_interval_by_enumeration():
    scores = np.array([0.0, 1.0, 5.0])
    means = [np.mean(drawn) for drawn in itertools.product(scores, repeat=3)]
    found = statistics.estimate(
        scores, options=Options(level=0.8, stretched=False, resamples=20_000)
    )
    assert found.low == pytest.approx(np.quantile(means, 0.1, method="inverted_cdf"))
    assert found.high == pytest.approx(np.quantile(means, 0.9, method="inverted_cdf"))


def test_the_stretch_turns_a_normal_interval_into_students():
    # The resampled mean has the standard error s sqrt((n - 1) / n) / sqrt(n), at z of which a
    # percentile interval ends; stretched it must end at t times s / sqrt(n).
    z = stats.norm.ppf(0.975)
    for n in (3, 8, 20):
        found = statistics.stretch([2.0], [n]) * z * math.sqrt((n - 1) / n)
        assert found == pytest.approx(stats.t.ppf(0.975, n - 1))
    # Two samples of equal size and spread: Student's test with 2 n - 2 degrees of freedom.
    found = statistics.stretch([2.0, 2.0], [8, 8]) * z * math.sqrt(7 / 8)
    assert found == pytest.approx(stats.t.ppf(0.975, 14))
    # One that does not vary is as good as known: only the other's seeds count.
    assert statistics.stretch([2.0, 0.0], [8, 3]) == pytest.approx(statistics.stretch([2.0], [8]))
    assert statistics.stretch([0.0], [8]) == 1.0


def test_stretched_intervals_keep_their_skew_and_their_bounds():
    scores = np.array([0.0, 0.0, 0.0, 0.1, 0.1, 0.9])
    plain = statistics.estimate(scores, options=PLAIN)
    wide = statistics.estimate(scores)
    factor = statistics.stretch([1.0], [6])
    assert wide.high - wide.value == pytest.approx(factor * (plain.high - plain.value))
    assert wide.value - wide.low == pytest.approx(factor * (plain.value - plain.low))
    assert wide.high - wide.value > 1.5 * (wide.value - wide.low) and wide.low < 0
    assert statistics.estimate(scores, options=statistics.SHARE).low == 0
    band = statistics.mean_band(scores[:, None], statistics.SHARE)
    assert band.low[0] == 0 and band.high[0] < 1


SIMULATIONS = 1000
STANDARD_ERROR = math.sqrt(0.95 * 0.05 / SIMULATIONS)


def coverage(interval, truth: float, stretched: bool = True) -> float:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(SIMULATIONS):
        found = interval(rng, Options(resamples=1000, seed=seed, stretched=stretched))
        held += found.low <= truth <= found.high
    return held / SIMULATIONS


def one_mean(rng, options):
    return statistics.estimate(rng.normal(2.0, 3.0, 8), options=options)


def mean_of_three(rng, options):
    return statistics.estimate(rng.normal(2.0, 3.0, 3), options=options)


def paired_difference(rng, options):
    common = rng.normal(0.0, 5.0, 8)
    x, y = common + rng.normal(1.0, 1.0, 8), common + rng.normal(0.0, 1.0, 8)
    return statistics.difference(x, y, paired=True, options=options)


def unpaired_difference(rng, options):
    x, y = rng.normal(1.0, 1.0, 8), rng.normal(0.0, 2.0, 6)
    return statistics.difference(x, y, paired=False, options=options)


@pytest.mark.parametrize(
    "interval, truth",
    [(one_mean, 2.0), (mean_of_three, 2.0), (paired_difference, 1.0), (unpaired_difference, 1.0)],
)
def test_intervals_hold_the_truth_in_95_of_100_cases(interval, truth):
    assert abs(coverage(interval, truth) - 0.95) < 3 * STANDARD_ERROR


def test_plain_percentiles_would_not():
    assert coverage(one_mean, 2.0, stretched=False) < 0.95 - 3 * STANDARD_ERROR
    assert coverage(mean_of_three, 2.0, stretched=False) < 0.8


def test_pairing_takes_away_what_the_seed_does_to_both():
    rng = np.random.default_rng(3)
    common = rng.normal(0.0, 0.2, 8)
    x, y = common + 0.05 + rng.normal(0, 0.01, 8), common + rng.normal(0, 0.01, 8)
    paired = statistics.difference(x, y, paired=True)
    unpaired = statistics.difference(x, y, paired=False)
    assert paired.value == pytest.approx(unpaired.value)
    assert statistics.verdict(paired) == "better" and statistics.verdict(unpaired) == (
        "not distinguishable"
    )
    with pytest.raises(ValueError, match="same seeds, got 8 and 7"):
        statistics.difference(x, y[1:], paired=True)


def test_bands_are_the_interval_of_every_point_and_leave_gaps():
    values = np.random.default_rng(1).normal(size=(8, 3))
    values[2, 1] = np.nan
    band = statistics.mean_band(values)
    np.testing.assert_allclose(band.mean, [values[:, 0].mean(), np.nan, values[:, 2].mean()])
    assert np.isnan(band.low[1]) and np.isnan(band.high[1])
    for point in (0, 2):
        alone = statistics.estimate(values[:, point], options=Options(resamples=2000))
        assert band.low[point] == pytest.approx(alone.low)
        assert band.high[point] == pytest.approx(alone.high)


def test_everything_is_a_function_of_its_inputs():
    assert statistics.estimate(X) == statistics.estimate(X)
    assert statistics.estimate(X) != statistics.estimate(X, options=Options(seed=1))


def test_one_seed_and_values_that_are_not_finite_have_no_interval():
    for scores in ([0.5], [0.5, math.nan], [math.inf, 1.0]):
        found = statistics.estimate(np.array(scores))
        assert math.isnan(found.low) and math.isnan(found.high)
        assert statistics.verdict(found) == "not distinguishable"
    assert math.isnan(statistics.probability_of_improvement(np.ones(1), np.zeros(4)).low)
    band = statistics.mean_band(np.ones((1, 2)))
    assert np.isnan(band.low).all() and band.mean.tolist() == [1.0, 1.0]


def test_equal_scores_give_a_point():
    assert statistics.estimate(np.full(8, 0.25)) == Estimate(0.25, 0.25, 0.25)
    assert statistics.verdict(statistics.difference(np.ones(6), np.ones(6), paired=True)) == (
        "not distinguishable"
    )


@pytest.mark.parametrize(
    "low, high, higher, said",
    [
        (0.1, 0.2, True, "better"),
        (-0.2, -0.1, True, "worse"),
        (-0.1, 0.1, True, "not distinguishable"),
        (0.0, 0.1, True, "not distinguishable"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, False, "better"),
    ],
)
def test_the_verdict_follows_the_interval(low, high, higher, said):
    found = Estimate((low + high) / 2, low, high)
    assert statistics.verdict(found, higher_is_better=higher) == said


def test_how_many_seeds_are_enough():
    assert [statistics.enough_seeds(n) for n in (1, 5, 6, 8)] == [False, False, True, True]
    assert [statistics.enough_seeds(n, n) for n in (2, 3, 4)] == [False, False, True]
    # By enumeration: of all ways to split 4 + 4 different scores, 2 separate the two methods.
    ways = [set(chosen) for chosen in itertools.combinations(range(8), 4)]
    apart = sum(chosen in ({0, 1, 2, 3}, {4, 5, 6, 7}) for chosen in ways)
    assert apart / len(ways) == 2 / math.comb(8, 4) <= 0.05
