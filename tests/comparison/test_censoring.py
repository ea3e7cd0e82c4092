"""Costs to a threshold: the first evaluation, censored seeds, and comparing them."""

from __future__ import annotations

import numpy as np
import pytest

from rljax.comparison.censoring import Reached, cheaper, first_reached

ACCURACY = np.array(
    [
        [0.1, 0.8, 0.7, 0.9],  # reaches it at the second, whatever comes later
        [0.8, 0.8, 0.8, 0.8],
        [0.1, 0.2, 0.3, 0.79],  # never
        [0.1, 0.2, 0.3, 0.8],  # at the threshold is enough
    ]
)
TOKENS = np.array([[0, 10, 20, 30], [0, 11, 21, 31], [0, 12, 22, 32], [0, 13, 23, 33]], float)


def test_the_first_evaluation_at_the_threshold_counts():
    found = first_reached(ACCURACY, TOKENS, 0.8)
    assert found.cost.tolist() == [10, 0, 32, 33]
    assert found.reached.tolist() == [True, True, False, True]
    assert found.share == 0.75
    # Sorted with the censored one last: 0, 10, 33, more than 32.
    assert found.median == pytest.approx(21.5) == found.at_least


def test_costs_that_all_seeds_share():
    found = first_reached(ACCURACY, np.array([0, 5, 10, 15]), 0.8)
    assert found.cost.tolist() == [5, 0, 15, 15]


@pytest.mark.parametrize(
    "cost, reached, median, at_least",
    [
        ([1, 2, 3], [True, True, True], 2.0, 2.0),
        ([1, 2, 9], [True, True, False], 2.0, 2.0),
        ([1, 9, 9], [True, False, False], None, 9.0),
        ([1, 2, 9, 9], [True, True, False, False], None, 5.5),  # between 2 and one beyond 9
        ([9, 9], [False, False], None, 9.0),
    ],
)
def test_the_median_exists_when_more_than_half_got_there(cost, reached, median, at_least):
    found = Reached(np.array(cost, float), np.array(reached))
    assert found.median == median and found.at_least == at_least


def test_a_median_that_ignored_censored_seeds_would_be_too_low():
    found = Reached(np.array([1.0, 5.0, 9.0, 9.0, 9.0]), np.array([True, True] + [False] * 3))
    assert found.median is None and found.at_least == 9.0 > np.median([1.0, 5.0])


@pytest.mark.parametrize(
    "x, y, score",  # (cost, reached)
    [
        ((1, True), (2, True), 1.0),
        ((2, True), (1, True), 0.0),
        ((2, True), (2, True), 0.5),
        ((2, True), (2, False), 1.0),  # y had spent 2 and was not there
        ((2, True), (1, False), 0.5),  # y might have got there with 1.5
        ((2, False), (1, True), 0.0),
        ((1, False), (2, True), 0.5),
        ((1, False), (2, False), 0.5),
    ],
)
def test_comparing_two_runs(x, y, score):
    def make(run):
        return Reached(np.array([float(run[0])]), np.array([run[1]]))

    assert cheaper(make(x), make(y)).tolist() == [[score]]
    assert cheaper(make(y), make(x)).tolist() == [[1 - score]]


def test_rows_are_the_first_method_and_columns_the_second():
    x = Reached(np.array([1.0, 5.0]), np.array([True, True]))
    y = Reached(np.array([3.0, 7.0, 2.0]), np.array([True, True, False]))
    assert cheaper(x, y).tolist() == [[1, 1, 1], [0, 1, 0.5]]
