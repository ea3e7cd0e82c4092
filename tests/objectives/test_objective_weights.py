"""Weights of rewards that follow the influence of their gradients (arXiv:2509.11452)."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.objective_weights import (
    first_objective_weights,
    influences,
    move_objective_weights,
    objective_weighted,
)

RNG = np.random.default_rng(0)
WEIGHTS = np.float32([0.2, 0.5, 0.3])


def gram_of(gradients):
    return jnp.asarray(gradients @ gradients.T, jnp.float32)


def moved(gradients, weights=WEIGHTS, rate=1e-6, **fields):
    return np.asarray(
        move_objective_weights(weights, influences(gram_of(gradients)), rate, **fields)
    )


def test_a_weight_grows_with_the_influence_of_its_gradient_on_all():
    gradients = RNG.normal(size=(3, 20))
    influence = gradients @ gradients.sum(axis=0)
    np.testing.assert_allclose(influences(gram_of(gradients)), influence, rtol=1e-5)
    found = moved(gradients)
    expected = WEIGHTS * np.exp(0.1 * influence)  # 1e-6 / 1e-5
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-4)
    assert found.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(influences(gram_of(3 * gradients)), 9 * influence, rtol=1e-5)
    np.testing.assert_allclose(moved(gradients, weight_scale=1e-4), moved(gradients, rate=1e-7))


def test_equal_influences_and_zeros_change_nothing():
    same = np.repeat(RNG.normal(size=(1, 20)), 3, axis=0)
    for gradients in (same, np.zeros((3, 20)), 2 * np.eye(3)):  # the last: orthogonal, of one norm
        np.testing.assert_allclose(moved(gradients), WEIGHTS, rtol=1e-6)
    found = moved(RNG.normal(size=(3, 20)), np.float32([0, 0.4, 0.6]))
    assert found[0] == 0 and found.sum() == pytest.approx(1.0, abs=1e-6)


def test_a_solved_reward_loses_weight():
    """It has no gradient left; its samples are all right."""
    gradients = np.concatenate([RNG.normal(size=(2, 20)), np.zeros((1, 20))])
    gradients[1] = gradients[0]  # they help each other
    found = moved(gradients)
    assert found[2] < WEIGHTS[2] and (found[:2] > WEIGHTS[:2]).all()


def test_scores_are_the_sum_by_these_weights():
    components = RNG.normal(size=(4, 3)).astype(np.float32)
    found = objective_weighted(components, jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(found, components @ WEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(first_objective_weights(4), 0.25)
    with pytest.raises(ValueError, match="weight_scale is 0.0; it must be > 0"):
        moved(np.eye(3), weight_scale=0.0)
