"""Figures of a reward model's scores against counts by hand."""

import math

import numpy as np
import pytest

from rljax.training.pair_evaluation.scores import (
    PARTNERS,
    accuracy,
    accuracy_by_length,
    accuracy_by_margin,
    calibration_error,
    comparisons_of_all,
    judged_labels,
    judged_pairs,
    judged_steps,
)


def test_accuracy_counts_no_tie():
    assert accuracy(np.array([1.0, 2.0, 0.0, 5.0]), np.array([1.0, 1.0, 3.0, 4.0])) == 0.5
    assert math.isnan(accuracy(np.zeros(0), np.zeros(0)))


def test_calibration_error_by_hand():
    """Two bins: confidences 0.6, 0.7 (one right) and 0.8, 0.9 (both right)."""
    logit = np.log(np.array([0.6, 0.7, 0.8, 0.9]) / np.array([0.4, 0.3, 0.2, 0.1]))
    margins = logit * np.array([1, -1, 1, 1])
    # |1 - 1.3| / 4 + |2 - 1.7| / 4
    assert calibration_error(margins, bins=2) == pytest.approx((0.3 + 0.3) / 4, abs=1e-9)
    assert calibration_error(np.full(5, 1e6)) == 0.0  # sure and right
    assert calibration_error(np.full(5, -1e6)) == 1.0  # sure and wrong
    assert calibration_error(np.zeros(4)) == 0.5  # a tie is no win
    assert math.isnan(calibration_error(np.zeros(0)))


def test_a_calibrated_model_has_an_error_near_zero():
    random = np.random.default_rng(0)
    margins = np.abs(random.normal(0, 2, 200_000))
    wins = random.random(len(margins)) < 1 / (1 + np.exp(-margins))
    assert calibration_error(np.where(wins, margins, -margins)) < 5e-3
    assert calibration_error(3 * np.where(wins, margins, -margins)) > 0.08


def test_quarters_go_by_how_sure_the_model_is():
    margins = np.array([0.1, -0.2, 5.0, 6.0, -1.0, -1.5, 2.0, -2.5])
    found = accuracy_by_margin(margins)
    assert list(found.values()) == [0.5, 0.0, 0.5, 1.0]
    assert list(found) == [f"accuracy_by_margin/{quarter}" for quarter in range(1, 5)]
    assert accuracy_by_margin(margins[:3]) == {}


def test_a_model_that_goes_by_length():
    chosen, rejected = np.array([9, 7, 3, 2, 4]), np.array([5, 6, 4, 8, 4])
    margins = (chosen - rejected).astype(float)
    assert accuracy_by_length(margins, chosen, rejected) == {
        "accuracy_by_length/longer": 1.0,
        "accuracy_by_length/shorter": 0.0,
    }
    assert accuracy_by_length(margins[:2], chosen[:2], rejected[:2]) == {
        "accuracy_by_length/longer": 1.0
    }


def test_everything_of_some_pairs():
    found = judged_pairs(np.array([2.0, 0.0]), np.array([1.0, 3.0]), np.ones(2), np.ones(2))
    assert set(found) == {"reward_accuracy", "reward_margin", "calibration_error"}
    assert (found["reward_accuracy"], found["reward_margin"]) == (0.5, -1.0)


def test_completions_of_different_prompts_are_compared_in_bounded_work():
    rng = np.random.default_rng(1)
    ratings = rng.integers(0, 3, 60).astype(float)
    present = rng.random(60) < 0.9
    better, worse = comparisons_of_all(ratings, present)
    wanted = {
        (i, j)
        for i in range(60)
        for j in range(60)
        if present[i] and present[j] and ratings[i] > ratings[j]
    }
    assert set(zip(better.tolist(), worse.tolist(), strict=True)) == wanted
    assert len(better) == len(wanted)
    many = rng.normal(size=10_000)
    better, worse = comparisons_of_all(many, np.ones(10_000, bool))
    assert len(better) == PARTNERS * 10_000 and (many[better] > many[worse]).all()
    # Scores that say nothing are right half of the time.
    noise = rng.normal(size=10_000)
    assert np.mean(noise[better] > noise[worse]) == pytest.approx(0.5, abs=0.02)


def test_what_is_said_of_steps():
    """Four answers: found the first error, missed it, saw one too early, right without one."""
    ends = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 1]], bool)
    scores = np.array([[1.0, -1, 2], [1, 9, 1], [-1, -2, 9], [9, 1, 3.0]])
    found = judged_steps(scores, labels, ends)
    assert found["reward_accuracy"] == pytest.approx(6 / 9)
    assert found["first_error_accuracy"] == pytest.approx(2 / 4)
    # The lowest scores are -1, 1, -2 of wrong answers and 1 of the right one.
    assert found["outcome_auroc"] == pytest.approx(2.5 / 3)


def test_balanced_accuracy_counts_both_labels_alike():
    labels = np.array([True] * 9 + [False])
    everything = judged_labels(np.ones(10, np.float32), labels)
    assert everything["reward_accuracy"] == 0.9 and everything["balanced_accuracy"] == 0.5
    scores = np.float32([1, 1, 1, 1, 1, 1, -1, -1, -1, -2])
    assert judged_labels(scores, labels)["balanced_accuracy"] == pytest.approx((6 / 9 + 1) / 2)
    assert "balanced_accuracy" not in judged_labels(scores, np.ones(10, bool))
