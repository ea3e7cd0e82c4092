"""The goal-conditioned term against hand values; parity with the authors' code: tests/golden."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.reward_models.goal_conditioned import (
    goal_conditioned,
    goal_similarities,
    state_slots,
)

LENGTHS = jnp.array([4, 1])


def test_draws_choose_states_from_the_end():
    """u = 0 is the last token of the prompt, u near 1 the last one of the completion."""
    draws = jnp.array([[0.0, 0.3, 0.6, 0.999], [0.0, 0.5, 0.9, 0.999]])
    assert state_slots(draws, LENGTHS, 0.0).tolist() == [[0, 2, 3, 4], [0, 1, 1, 1]]
    # The first half: u' in (0.5, 1], k = floor(4 u' + 1) in 3..5.
    assert state_slots(draws, LENGTHS, 0.5)[0].tolist() == [0, 1, 2, 2]


def test_similarities_of_states_that_are_known():
    """All chosen states are e1, all rejected ones -e1: cosines 1 and -1."""
    hidden = jnp.zeros((2, 2, 5, 3)).at[:, 0, :, 0].set(2.0).at[:, 1, :, 0].set(-3.0)
    lengths, draws = jnp.stack([LENGTHS, LENGTHS], axis=1), jnp.full((2, 4, 6), 0.4)
    good, bad = goal_similarities(hidden, lengths, draws)
    sigmoid = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(good, sigmoid, rtol=1e-6)
    np.testing.assert_allclose(bad, 1 - sigmoid, rtol=1e-6)
    loss, _ = goal_conditioned(good, bad, good, bad, goal_weight=1.0)
    np.testing.assert_allclose(loss, -2 * math.log(sigmoid), rtol=1e-6)  # the smallest: 0.627
    zero, _ = goal_similarities(0 * hidden, lengths, draws)
    np.testing.assert_allclose(zero, 0.5)
    assert np.isfinite(jax.grad(lambda h: goal_similarities(h, lengths, draws)[0].sum())(0 * hidden)
                       ).all()  # fmt: skip


def test_states_without_structure_are_near_2_ln_2():
    hidden = jax.random.normal(jax.random.key(0), (64, 2, 9, 256))
    draws, lengths = jax.random.uniform(jax.random.key(1), (64, 4, 8)), jnp.full((64, 2), 8)
    for average in (False, True):
        good, bad = goal_similarities(hidden, lengths, draws, goal_average=average)
        means = jnp.full(64, good.mean()), jnp.full(64, bad.mean())
        loss, _ = goal_conditioned(good, bad, *means, goal_weight=1.0)
        # Sources are sometimes goals themselves, which makes the first term a little smaller.
        assert float(loss.mean()) == pytest.approx(2 * math.log(2), abs=0.12)


def test_value_and_gradient_are_those_of_the_logarithm_of_means():
    good, bad = jnp.array([0.4, 0.7, 0.55]), jnp.array([0.3, 0.6, 0.5])

    def whole(good, bad):
        return -jnp.log(good.mean()) - jnp.log(1 - bad.mean())

    def expanded(good, bad):
        means = [jnp.full(3, each.mean()) for each in (good, bad)]
        return goal_conditioned(good, bad, *means, goal_weight=1.0)[0].mean()

    value, gradient = jax.value_and_grad(whole, argnums=(0, 1))(good, bad)
    found, slopes = jax.value_and_grad(expanded, argnums=(0, 1))(good, bad)
    assert float(found) == pytest.approx(float(value), rel=1e-6)
    for one, other in zip(gradient, slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(ValueError, match="goal_weight.*>= 0"):
        goal_conditioned(good, bad, good, bad, goal_weight=-1.0)
