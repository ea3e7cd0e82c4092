"""Which samples of a prompt are compared, counted by hand."""

import numpy as np
import pytest

from rljax.data.sample_rules import (
    LABEL_RULES,
    OF_CONSTRAINTS,
    OF_VERDICTS,
    PAIR_RULES,
    SEVERAL,
    Candidates,
    PairOptions,
    labels_by_rule,
    pairs_by_rule,
)

SCORES = [0.5, 2.0, -1.0, 2.0, 0.25]
RIGHT = [False, True, False, True, False]
WRONG = [True, False, True, False, False]  # of the last one nothing is known


def candidates(scores=SCORES, right=RIGHT, wrong=WRONG):
    return Candidates(np.array(scores, np.float32), np.array(right, bool), np.array(wrong, bool))


def pairs(rule, found=None, margin=0.0, most=9, seed=0):
    options = PairOptions(margin, most, np.random.default_rng(seed))
    return pairs_by_rule(rule, candidates() if found is None else found, options)


NONE = candidates([], [], [])
ALIKE = candidates([1.0] * 3, [False] * 3, [True] * 3)


def test_the_first_right_and_the_first_wrong_one():
    assert pairs("first_right_first_wrong") == [(1, 0)]


def test_the_best_and_the_worst_and_the_first_of_equal_ones():
    assert pairs("best_worst") == [(1, 2)]
    assert pairs("best_worst", margin=2.9) == [(1, 2)]
    assert pairs("best_worst", margin=3.0) == []  # no more than the margin


def test_the_best_and_any_of_a_lower_score():
    drawn = {pairs("best_random", seed=seed)[0] for seed in range(60)}
    assert drawn == {(1, 0), (1, 2), (1, 4)}  # never the other best one
    assert {pairs("best_random", margin=2.0, seed=seed)[0] for seed in range(9)} == {(1, 2)}


def test_all_pairs_above_the_margin_the_largest_difference_first():
    assert pairs("all_above_margin", margin=1.4, most=9) == [
        *[(1, 2), (3, 2)],  # 3
        *[(1, 4), (3, 4)],  # 1.75
        *[(0, 2), (1, 0), (3, 0)],  # 1.5
    ]
    assert pairs("all_above_margin", margin=1.4, most=3) == [(1, 2), (3, 2), (1, 4)]
    assert len(pairs("all_above_margin", most=99)) == 9  # of 10 pairs one is of equal scores


def test_some_combinations_of_right_and_wrong_ones_none_twice():
    every = {(1, 0), (1, 2), (3, 0), (3, 2)}
    assert set(pairs("random_right_wrong")) == every
    for seed in range(9):
        found = pairs("random_right_wrong", most=3, seed=seed)
        assert len(set(found)) == len(found) == 3 and set(found) < every
    first = {tuple(pairs("random_right_wrong", most=3, seed=seed)) for seed in range(9)}
    assert len(first) > 1


def test_each_of_the_best_stands_beside_a_lower_one_that_is_not_among_them():
    found = candidates([1.0, 3.0, 0.5, 2.0, 2.0], [0] * 5, [0] * 5)
    assert {tuple(pairs("top_lower", found, most=1, seed=s)) for s in range(60)} == {
        ((1, other),) for other in (0, 2, 3, 4)
    }
    every = {pair for s in range(60) for pair in pairs("top_lower", found, most=2, seed=s)}
    assert every == {(1, 0), (1, 2), (1, 4), (3, 0), (3, 2)}  # of equals the first is among them
    apart = {
        pair for s in range(60) for pair in pairs("top_lower", found, most=2, margin=1.2, seed=s)
    }
    assert apart == {(1, 0), (1, 2), (3, 2)}
    assert pairs("top_lower", found, most=5) == []  # nothing is left to be lower


@pytest.mark.parametrize("rule", sorted(set(PAIR_RULES) - OF_CONSTRAINTS))
def test_nothing_to_compare_is_no_pair(rule):
    assert pairs(rule, NONE) == pairs(rule, ALIKE) == []


def test_labels():
    def labels(rule, threshold=0.0):
        return labels_by_rule(rule, candidates(), threshold)

    assert labels("right") == [False, True, False, True, None]
    assert labels("above_mean") == [False, True, False, True, False]  # of 0.75
    assert labels("best_worst") == [None, True, False, None, None]
    assert labels("above_threshold") == [True, True, False, True, True]
    assert labels("above_threshold", 0.5) == [False, True, False, True, False]


def test_equal_scores_have_no_label_where_they_are_compared():
    for rule in ("above_mean", "best_worst"):
        assert labels_by_rule(rule, ALIKE, 0.0) == [None] * 3
        # The float32 mean of these is not exactly one of them.
        assert labels_by_rule(rule, candidates([0.1] * 3, [0] * 3, [0] * 3), 0.0) == [None] * 3
    assert labels_by_rule("above_mean", candidates([1, 2, 3], [0] * 3, [0] * 3), 0.0) == [
        *(False, None, True)
    ]
    for rule in LABEL_RULES:
        assert labels_by_rule(rule, NONE, 0.0) == []


def test_what_did_not_end_is_the_worst_and_never_the_best():
    cut = candidates([1.0, -np.inf, 3.0, -np.inf], [False] * 4, [True] * 4)
    assert pairs("best_worst", cut, margin=9.0) == [(2, 1)]
    assert {pairs("best_random", cut, seed=s)[0] for s in range(30)} == {(2, 0), (2, 1), (2, 3)}
    assert pairs("all_above_margin", cut) == [(0, 1), (0, 3), (2, 1), (2, 3), (2, 0)]
    assert labels_by_rule("above_mean", cut, 0.0) == [False, False, True, False]
    assert labels_by_rule("best_worst", cut, 0.0) == [None, False, True, None]
    assert labels_by_rule("above_threshold", cut, -9.0) == [True, False, True, False]
    never = candidates([-np.inf] * 3, [False] * 3, [True] * 3)
    for rule in set(PAIR_RULES) - OF_CONSTRAINTS:
        assert pairs(rule, never) == []
    assert labels_by_rule("above_mean", never, 0.0) == [False] * 3
    # One that ended is above those that did not, and by itself neither good nor bad.
    one = candidates([2.0, -np.inf], [False] * 2, [True] * 2)
    assert labels_by_rule("above_mean", one, 0.0) == [None, False]


def test_a_rule_of_verdicts_never_reads_a_score():
    unread = candidates([np.nan] * 5)
    for rule in OF_VERDICTS & set(PAIR_RULES) - OF_CONSTRAINTS:
        assert pairs(rule, unread) == pairs(rule)
    assert labels_by_rule("right", unread, 0.0) == labels_by_rule("right", candidates(), 0.0)
    assert OF_VERDICTS <= {*PAIR_RULES, *LABEL_RULES} and SEVERAL <= set(PAIR_RULES)
