"""Win rates and their intervals, against other implementations and by hand."""

import numpy as np
import pytest
from scipy import special, stats

from rljax.training.win_rate.figures import (
    length_controlled,
    length_controlled_interval,
    wilson_interval,
    win_rate_figures,
)
from rljax.training.win_rate.preferences import outcomes_of_scores


@pytest.mark.parametrize("wins, count", [(7, 10), (0, 12), (12, 12), (51, 100)])
def test_the_interval_is_wilsons(wins, count):
    outcomes = np.repeat([1.0, 0.0], [wins, count - wins])
    expected = stats.binomtest(wins, count).proportion_ci(method="wilson")
    found = wilson_interval(outcomes)
    assert found == pytest.approx((wins / count, expected.low, expected.high), abs=1e-12)
    other = wilson_interval(outcomes, 0.8)
    assert found.low <= other.low + 1e-12 and other.high <= found.high + 1e-12
    assert found.high - found.low > other.high - other.low


def test_a_tie_counts_half():
    assert wilson_interval(np.array([1.0, 0.5, 0.5, 0.0])).value == 0.5
    scores = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[2.0, 2.0]], [[0.3, 0.0]]])
    assert outcomes_of_scores(scores).tolist() == [[1.0], [0.0], [0.5], [1.0]]
    assert outcomes_of_scores(scores, 0.3).tolist() == [[1.0], [0.0], [0.5], [0.5]]


def drawn(slope, count=4000, seed=0):
    """Comparisons of a side that is better by 0.4 nats, and that a longer answer helps."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(20, 60, (count, 2)) + np.array([15, 0])
    more = lengths[:, 0] - lengths[:, 1]
    chance = special.expit(0.4 + slope * np.tanh(more / more.std()))
    return (draw.random(count) < chance).astype(float), lengths.astype(float)


@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_length_control_finds_the_rate_at_equal_lengths(slope):
    outcomes, lengths = drawn(slope)
    assert length_controlled(outcomes, lengths) == pytest.approx(special.expit(0.4), abs=0.02)
    if slope:  # the plain rate is what length has made of it
        assert outcomes.mean() > special.expit(0.4) + 0.1


def test_length_control_without_different_lengths_is_the_plain_rate():
    outcomes = np.repeat([1.0, 0.0], [60, 40])
    found = length_controlled(outcomes, np.full((100, 2), 7.0))
    assert found == pytest.approx(0.6, abs=2e-3)  # the prior draws it to 1/2
    assert 0.5 < length_controlled(np.ones(50), np.full((50, 2), 7.0)) < 1.0


def test_swapping_the_sides_swaps_the_figures():
    outcomes, lengths = drawn(2.0, 200)
    both = win_rate_figures(outcomes[:, None], lengths[:, None])
    other = win_rate_figures(1 - outcomes[:, None], lengths[:, None, ::-1])
    assert (both["wins"], both["losses"]) == (other["losses"], other["wins"])
    for name in ("win_rate", "length_controlled_win_rate"):
        assert both[name] == pytest.approx(1 - other[name], abs=1e-9)
    for name in ("win_rate_interval", "length_controlled_interval"):
        low, high = both[name]
        assert other[name] == pytest.approx([1 - high, 1 - low], abs=1e-9)
        assert 0 < low < high < 1


def test_intervals_are_over_prompts():
    """Four equal comparisons of a prompt say no more than one."""
    outcomes, lengths = drawn(0.0, 100)
    one = win_rate_figures(outcomes[:, None], lengths[:, None])
    four = win_rate_figures(
        np.repeat(outcomes[:, None], 4, axis=1), np.repeat(lengths[:, None], 4, axis=1)
    )
    assert four["comparisons"] == 400 and four["prompts"] == 100
    assert four["win_rate_interval"] == one["win_rate_interval"]
    wide, narrow = (np.diff(each["length_controlled_interval"]) for each in (one, four))
    assert narrow == pytest.approx(wide, rel=0.05)


def test_the_interval_of_the_controlled_rate_holds_it_as_often_as_it_says():
    held = 0
    for seed in range(20):
        outcomes, lengths = drawn(1.0, 60, seed)
        found = length_controlled_interval(outcomes[:, None], lengths[:, None])
        held += found.low <= special.expit(0.4) <= found.high
    assert held >= 16
