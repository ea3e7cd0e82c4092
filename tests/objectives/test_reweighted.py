"""RECAP's weights of rewards: by the losses of two windows (arXiv:2510.21978)."""

import numpy as np
import pytest

from rljax.objectives.advantages.components import component_zscore
from rljax.objectives.advantages.reweighted import (
    empty_history,
    next_loss_history,
    progress,
    progress_weights,
    reweighted_components,
)

RNG = np.random.default_rng(0)
HISTORY = RNG.uniform(0.5, 1.5, (3, 8)).astype(np.float32)
MASK = np.ones((4, 2), bool)


def test_weights_add_up_and_equal_histories_have_the_weight_1():
    np.testing.assert_allclose(progress_weights(HISTORY).sum(), 3.0, rtol=1e-6)
    same = np.repeat(HISTORY[:1], 3, axis=0)
    np.testing.assert_allclose(progress_weights(same), 1.0, rtol=1e-6)
    flat = np.full((3, 8), [[0.1], [0.5], [0.9]], np.float32)
    np.testing.assert_allclose(progress_weights(flat), 1.0, rtol=1e-6)
    np.testing.assert_allclose(progress_weights(HISTORY, reweight_temperature=1e9), 1.0, rtol=1e-6)


def test_the_unit_of_a_loss_does_not_count():
    scaled = HISTORY * np.float32([[1], [50], [1]])
    for found, expected in zip(progress(scaled, 0.0), progress(HISTORY, 0.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_falling_loss_gains_and_a_solved_one_is_as_a_constant_one():
    falling, rising = np.linspace(1, 0.4, 8), np.linspace(0.4, 1, 8)
    weights = np.asarray(progress_weights(np.float32([falling, rising, np.full(8, 0.7)])))
    assert weights[0] > 1 > weights[1]
    solved = np.asarray(progress_weights(np.float32([np.zeros(8), np.full(8, 0.7)])))
    np.testing.assert_allclose(solved, 1.0, rtol=1e-6)


def test_all_count_the_same_until_every_loss_is_there():
    history = np.asarray(empty_history(3, 4))
    assert history.shape == (3, 8) and np.isnan(history).all()
    np.testing.assert_array_equal(progress_weights(history), 1.0)
    partly = np.where(np.arange(8) == 0, np.nan, HISTORY).astype(np.float32)
    np.testing.assert_array_equal(progress_weights(partly), 1.0)


def test_a_loss_is_what_a_reward_lacks_over_the_samples_that_it_judges():
    components = np.float32([[1, 0], [0.5, 0.2], [9, 9], [0, 0.6]])
    applies = np.array([[True, False], [True, False], [True, True], [False, False]])
    mask = MASK.copy()
    mask[2] = False  # left out
    history = np.float32([[0.1, 0.2], [0.3, 0.4]])
    found = next_loss_history(history, components, applies, mask, loss_window=1)
    np.testing.assert_allclose(found, [[0.2, 0.25], [0.3, 0.4]], rtol=1e-6)
    above = next_loss_history(history, 3 * components, applies, mask, loss_window=1)
    assert float(above[0, 1]) == 0.0
    with pytest.raises(ValueError, match="loss_window is 0; it must be >= 1"):
        next_loss_history(history, components, applies, mask, loss_window=0)


def test_weights_come_after_the_normalisation():
    """Of z-scores of each reward, by losses with this step's own."""
    components = RNG.uniform(0, 1, (4, 2)).astype(np.float32)
    applies, weights = np.ones((4, 2), bool), np.float32([1, 0.5])
    history, groups = HISTORY[:2], np.array([0, 0, 1, 1])
    fields = dict(reweight_temperature=0.5, loss_window=4)
    found = reweighted_components(components, weights, applies, history, MASK, groups, **fields)
    new = next_loss_history(history, components, applies, MASK, loss_window=4)
    own = np.asarray(progress_weights(new, reweight_temperature=0.5))
    assert abs(own[0] - own[1]) > 0.05
    expected = component_zscore(components, weights * own, MASK, groups)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
