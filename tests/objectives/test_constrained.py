"""CGPO's advantages, several rewards side by side, and the hypervolume that they reach."""

import functools
import itertools

import jax
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.hypervolume import (
    contribution,
    empty_front,
    hypervolume,
    meta_of,
    update_front,
)
from rljax.objectives.parts import apply

ROWS = 6


def step(seed=0, **given):
    """Two prompts of three samples, one of two tokens each."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=ROWS).astype(np.float32)
    mask = np.array([[True, False], [True, True]] * 3)
    last = np.where(mask[:, 1], 1, 0)
    arrays = {
        "scores": scores,
        "mask": mask,
        "group_ids": np.repeat([4, 2], 3),
        "satisfied": np.ones(ROWS, bool),
        "base_scores": np.repeat(rng.normal(size=2), 3).astype(np.float32),
        "old_logprobs": np.zeros((ROWS, 2), np.float32),
        "ref_logprobs": np.zeros((ROWS, 2), np.float32),
        **given,
    }
    rewards = np.zeros((ROWS, 2), np.float32)
    rewards[np.arange(ROWS), last] = arrays["scores"]
    return arrays | {"token_rewards": rewards}


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def crpg(arrays, **fields):
    part = jax.jit(lambda arrays: apply(bound("calibrated_constrained", fields), arrays))
    return np.asarray(part(arrays))[:, 0]


def bound(name, fields):
    return functools.partial(ADVANTAGES[name], **fields)


def test_without_violations_and_drift_it_is_the_calibrated_reward_minus_its_mean():
    arrays = step()
    calibrated = sigmoid(arrays["scores"] - arrays["base_scores"])
    np.testing.assert_allclose(crpg(arrays), calibrated - calibrated.mean(), atol=1e-6)
    moved = step() | {"base_scores": arrays["base_scores"] + 3, "token_rewards": None}
    shifted = step(scores=arrays["scores"] + 3) | {"base_scores": moved["base_scores"]}
    np.testing.assert_allclose(crpg(shifted), crpg(arrays), atol=1e-6)


def test_violators_have_the_weight_0_before_the_mean_and_all_of_them_learn_nothing():
    satisfied = np.array([True, False, True, True, True, False])
    got = crpg(step(satisfied=satisfied))
    assert got[1] == got[5] < 0 and abs(got.sum()) < 1e-6
    np.testing.assert_array_equal(crpg(step(satisfied=np.zeros(ROWS, bool))), 0.0)


def test_a_sample_beyond_the_limit_of_its_log_ratio_earns_nothing():
    old = np.zeros((ROWS, 2), np.float32)
    old[1] = 1.0  # two tokens: a log-ratio of 2
    old[0] = [-6.0, 99.0]  # the second slot is masked
    got = crpg(step(old_logprobs=old), kl_limit=2.0)
    none = crpg(step(satisfied=np.arange(ROWS) != 1, old_logprobs=old), kl_limit=2.0)
    np.testing.assert_allclose(got, none, atol=1e-6)
    arrays = step(old_logprobs=old)
    own = sigmoid(arrays["scores"][0] - arrays["base_scores"][0])
    assert got[0] - got[1] == pytest.approx(4 * own, abs=1e-5)  # 1 + 6 / 2
    clipped = crpg(arrays, kl_limit=2.0, kl_factor_limit=1.5)
    assert clipped[0] - clipped[1] == pytest.approx(1.5 * own, abs=1e-5)


def test_a_row_whose_base_has_no_verdict_is_in_no_mean():
    base = np.array([0.0] * 3 + [np.nan] * 3, np.float32)
    arrays = step(base_scores=base)
    calibrated = sigmoid(arrays["scores"][:3])
    np.testing.assert_allclose(crpg(arrays)[:3], calibrated - calibrated.mean(), atol=1e-6)
    np.testing.assert_array_equal(crpg(arrays)[3:], 0.0)


def test_crraft_learns_the_first_best_sample_that_may_be_paid():
    scores = np.array([3, 2, 2, 1, 5, 5], np.float32)
    satisfied = np.array([False, True, True, True, True, True])
    old = np.zeros((ROWS, 2), np.float32)
    old[4, 0] = 11.0
    arrays = step(scores=scores, satisfied=satisfied, old_logprobs=old)
    got = np.asarray(apply(ADVANTAGES["best_constrained"], arrays))[:, 0]
    expected = np.zeros(ROWS)
    expected[[1, 5]] = 3 * sigmoid(scores[[1, 5]] - arrays["base_scores"][[1, 5]])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    nobody = step(satisfied=np.zeros(ROWS, bool))
    np.testing.assert_array_equal(apply(ADVANTAGES["best_constrained"], nobody), 0.0)


@pytest.mark.parametrize("limit", ["kl_limit", "kl_factor_limit"])
def test_limits_must_be_positive(limit):
    with pytest.raises(ValueError, match=rf"{limit} is 0; it must be > 0.*objective.{limit}"):
        crpg(step(), **{limit: 0})


def test_a_reward_on_a_wide_scale_does_not_drown_another():
    rng = np.random.default_rng(3)
    narrow = rng.normal(size=ROWS).astype(np.float32)
    wide = rng.normal(size=ROWS).astype(np.float32)
    found = []
    for scale in (1.0, 100.0):
        components = np.stack([narrow, scale * wide], axis=1)
        arrays = step(components=components, component_weights=np.float32([1, 0.5]))
        found.append(np.asarray(apply(ADVANTAGES["component_zscore"], arrays)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    parts = [
        np.asarray(apply(ADVANTAGES["group_zscore"], step(scores=values)))
        for values in (narrow, wide)
    ]
    np.testing.assert_allclose(found[0], parts[0] + 0.5 * parts[1], atol=1e-5)


def volume_by_inclusion(points, reference):
    """Sum over all sets of points, with alternating signs, of the volume that they share."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            sides = np.maximum(np.min(chosen, axis=0) - reference, 0)
            total += (-1) ** (size + 1) * sides.prod()
    return total


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_hypervolume_is_that_of_inclusion_and_exclusion(count):
    rng = np.random.default_rng(count)
    points, reference = rng.uniform(size=(5, count)), np.full(count, 0.3)
    volume = float(hypervolume(points, reference))
    assert volume == pytest.approx(volume_by_inclusion(points, reference), abs=1e-6)
    assert float(hypervolume(points[::-1], reference)) == pytest.approx(volume, abs=1e-6)
    there = np.concatenate([points, np.full((2, count), np.nan)])
    assert float(hypervolume(there, reference)) == pytest.approx(volume, abs=1e-6)
    if count == 1:
        assert volume == pytest.approx(max(points.max() - 0.3, 0), abs=1e-6)


def test_a_dominated_point_or_one_below_the_reference_adds_nothing():
    front, reference = np.float32([[0.8, 0.6]]), np.float32([0.2, 0.2])
    for point in ([0.8, 0.6], [0.5, 0.6], [0.1, 5.0]):
        assert float(contribution(front, np.float32(point), reference)) == 0.0
    assert float(contribution(front, np.float32([0.9, 0.6]), reference)) == pytest.approx(0.04)
    assert float(meta_of(0.0)) == 0.5 and float(meta_of(9.0)) == pytest.approx(2.0)


def test_a_front_begins_with_the_first_step_and_forgets_the_oldest_point():
    weights, mask = np.float32([1, -0.5]), np.ones((2, 1), bool)
    mask[1] = False

    def after(front, first, second):
        components = np.float32([[first, second], [9, 9]])  # the second row is empty
        return update_front(components, weights, mask, front, front_points=2)

    front, meta = after(empty_front(2, 2), 0.5, 3.0)
    np.testing.assert_allclose(front[0], [0.5, -3.0])
    assert float(meta) == 1.0 and np.isnan(front[1:]).all()
    front, meta = after(front, 1.5, 2.0)  # 1 x 1
    assert float(meta) == pytest.approx(0.5 + 1.5 * np.tanh(1.0))
    front, meta = after(front, 1.0, 2.5)
    assert float(meta) == 0.5 and np.isnan(front[2]).all()
    for first in (2.5, 3.5):
        front, meta = after(front, first, 2.0)
    np.testing.assert_allclose(front, [[0.5, -3], [3.5, -2], [2.5, -2]])
    with pytest.raises(ValueError, match="component_count is 5; it must be 2, 3 or 4"):
        update_front(np.ones((1, 5)), weights, mask, front, component_count=5)
