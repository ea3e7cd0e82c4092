"""Ranking accuracy and what bounds it; parity with the authors' code is in tests/golden."""

import math

import numpy as np
import pytest

from rljax.training.pair_evaluation.heldout import preferred_shares, ranking_metrics
from rljax.training.pair_evaluation.ranking import (
    BETAS,
    idealised_accuracies,
    idealised_log_ratio,
    log_preference_odds,
    ranked_right,
    required_loss,
)

RANDOM = np.random.default_rng(0)
POLICY, REFERENCE = RANDOM.normal(-20, 6, (2, 500, 2))
LENGTHS = RANDOM.integers(1, 30, (500, 2))
ALL = np.ones(500)


def test_a_pair_is_ranked_right_exactly_where_its_loss_is_small_enough():
    """Theorem 4.1: loss <= -log sigmoid(beta c) if and only if the chosen side is as likely."""
    for beta in (0.05, 0.5):
        changes = POLICY - REFERENCE
        loss = np.logaddexp(0, -beta * (changes[:, 0] - changes[:, 1]))
        needed = required_loss(*REFERENCE.T, beta)
        np.testing.assert_array_equal(loss <= needed, ranked_right(*POLICY.T))
    # The reference is wrong by 3 nats: -log sigmoid(0.5 * 3).
    assert required_loss(np.array(-5.0), np.array(-2.0), 0.5) == pytest.approx(
        math.log(1 + math.exp(-1.5))
    )
    # The proposition: a loss of at most 0.6 keeps what the reference ranks right.
    kept = (loss <= 0.6) & ranked_right(*REFERENCE.T)
    assert kept.any() and ranked_right(*POLICY.T)[kept].all()


def test_the_idealised_policy():
    assert log_preference_odds(np.array([0.5, 0.75, 1.0, 0.0])) == pytest.approx(
        [0, math.log(3), math.log(1000), -math.log(1000)]
    )
    ratio = idealised_log_ratio(np.array([-4.0]), np.array([-1.0]), np.array([0.75]), 0.5)
    assert ratio == pytest.approx(-3 + 2 * math.log(3))
    # A small beta ranks all as people do, a large one as the reference.
    assert np.mean(idealised_log_ratio(*REFERENCE.T, 0.7 * ALL, 1e-4) > 0) == 1
    far = np.mean(idealised_log_ratio(*REFERENCE.T, 0.7 * ALL, 1e6) > 0)
    assert far == np.mean(ranked_right(*REFERENCE.T))
    found = idealised_accuracies(*REFERENCE.T, 0.7 * ALL)
    assert found.shape == (len(BETAS),) and (np.diff(found) <= 0).all() and found[0] > found[-1]
    with pytest.raises(ValueError, match="beta must be > 0"):
        idealised_log_ratio(*REFERENCE.T, ALL, 0.0)
    with pytest.raises(ValueError, match=r"preferred_share must lie in \[0, 1\]"):
        log_preference_odds(np.array([1.5]))


def test_metrics_of_held_out_pairs():
    found = ranking_metrics(POLICY, LENGTHS, ALL, REFERENCE, 0.1)
    assert found["ranking_accuracy"] == np.mean(POLICY[:, 0] >= POLICY[:, 1])
    means = POLICY / LENGTHS
    assert found["ranking_accuracy_per_token"] == np.mean(means[:, 0] >= means[:, 1])
    gain = POLICY - REFERENCE
    assert found["reward_accuracy"] == np.mean(gain[:, 0] > gain[:, 1])
    wrong = REFERENCE[:, 0] < REFERENCE[:, 1]
    assert found["flipped_share"] == np.mean((POLICY[:, 0] >= POLICY[:, 1])[wrong])
    assert found["required_loss"] == pytest.approx(required_loss(*REFERENCE.T, 0.1).mean())
    ideal = [found[f"idealised_ranking_accuracy/{x}"] for x in ("lowest", "median", "highest")]
    assert ideal == sorted(ideal) and ideal[2] == 1
    # What the policy is changes nothing about what it could be; order changes nothing at all.
    turned = ranking_metrics(POLICY[::-1], LENGTHS[::-1], ALL, REFERENCE[::-1], 0.1)
    assert turned == pytest.approx(found)
    same = ranking_metrics(REFERENCE, LENGTHS, ALL, REFERENCE, 0.1)
    assert same["ranking_accuracy"] == same["reference_ranking_accuracy"]
    assert (same["reward_accuracy"], same["flipped_share"]) == (0, 0)
    for name, value in found.items():
        if name.startswith(("idealised", "required", "reference")):
            assert same[name] == value


def test_without_a_reference_and_without_usable_pairs():
    assert set(ranking_metrics(POLICY, LENGTHS, ALL, None, 0.1)) == {
        "ranking_accuracy",
        "ranking_accuracy_per_token",
    }
    empty = np.array([[3, 0], [2, 2]])
    assert ranking_metrics(POLICY[:2], empty, np.array([1.0, 0.5]), None, None) == {}
    one = ranking_metrics(np.array([[-1.0, -9.0], [-9.0, -1.0]]), empty, np.ones(2), None, None)
    assert one["ranking_accuracy"] == 0.0  # the pair with an empty side is left out


def test_shares_of_people():
    rows = [{}, {"preferred_share": 0.75}, {"preferred_share": 1}]
    assert preferred_shares(rows).tolist() == [1, 0.75, 1]
    # Below a half the chosen side would be the one that most people reject.
    for wrong in (1.2, 0.25, "most", True):
        with pytest.raises(ValueError, match="record 1: the column 'preferred_share' must be"):
            preferred_shares([{}, {"preferred_share": wrong}])
