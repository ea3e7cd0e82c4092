"""Influence by gradients, and weights by losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.data_selection import (
    LOSS_MAPS,
    adam_direction,
    influence_scores,
    loss_weights,
    unit,
)

RNG = np.random.default_rng(0)
ONE_TASK = jnp.zeros(4, int)


def numbers(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def test_with_gradients_on_both_sides_it_is_their_cosine():
    train, target = numbers(3, 5), numbers(4, 5)
    found = influence_scores([train], [target], [0.1], ONE_TASK, count=1)
    norms = np.linalg.norm(train, axis=1)[:, None] * np.linalg.norm(target, axis=1)
    np.testing.assert_allclose(found, (train @ target.T / norms).mean(axis=1), rtol=1e-5)


def test_lengths_have_no_say_and_no_gradient_no_influence():
    train, target = numbers(3, 5), numbers(4, 5)
    found = influence_scores([train], [target], [0.1], ONE_TASK, count=1)
    longer = influence_scores([train * 7], [target / 3], [5.0], ONE_TASK, count=1)
    np.testing.assert_allclose(longer, found, rtol=1e-5)
    assert influence_scores([train * 0], [target], [0.1], ONE_TASK, count=1).tolist() == [0] * 3
    assert unit(jnp.zeros((1, 3))).tolist() == [[0, 0, 0]]


def test_the_task_that_is_helped_most_counts_and_rates_are_shares():
    train, first, second = jnp.eye(2), jnp.eye(2)[:1], jnp.eye(2)[1:]
    both = jnp.concatenate([first, first, second])
    tasks = jnp.array([0, 0, 1])
    found = influence_scores([train], [both], [1.0], tasks, count=2)
    np.testing.assert_allclose(found, [1, 1])
    together = influence_scores([train], [both], [1.0], tasks * 0, count=1)
    np.testing.assert_allclose(together, [2 / 3, 1 / 3], rtol=1e-6)
    twice = influence_scores([train] * 2, [both, -both], [3.0, 1.0], tasks * 0, count=1)
    np.testing.assert_allclose(twice, np.array([2 / 3, 1 / 3]) / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="rates is .* must be positive numbers"):
        influence_scores([train], [both], [0.0], tasks, count=2)


def test_a_direction_starts_from_the_moments_of_the_checkpoint():
    gradient, m, v = jnp.array([[2.0]]), jnp.array([1.0]), jnp.array([4.0])
    found = adam_direction(gradient, m, v, epsilon=0.0)
    np.testing.assert_allclose(found, [[1.1 / 2.0]], rtol=1e-6)  # v stays: 0.999 * 4 + 0.001 * 4
    assert adam_direction(jnp.zeros((1, 1)), m * 0, v * 0).tolist() == [[0]]


@pytest.mark.parametrize("name", LOSS_MAPS)
def test_losses_may_be_shifted_and_scaled(name):
    losses = numbers(6)
    found = loss_weights(losses, loss_map=name).weights
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(
        loss_weights(3 * losses + 2, loss_map=name).weights, found, rtol=1e-3
    )
    equal = loss_weights(jnp.full(4, 1.7), loss_map=name).weights
    np.testing.assert_allclose(equal, 0.25, rtol=1e-6)
    flat = loss_weights(losses, loss_map=name, loss_temperature=1e6).weights
    np.testing.assert_allclose(flat, 1 / 6, rtol=1e-4)


def test_what_each_map_prefers():
    losses = jnp.array([0.0, 1.0, 2.0])
    of = {name: np.asarray(loss_weights(losses, loss_map=name).weights) for name in LOSS_MAPS}
    assert of["linupper"][0] < of["linupper"][1] == of["linupper"][2]
    assert of["quadratic"].argmax() == 1 and of["extremes"].argmin() == 1
    assert (np.diff(of["upper"]) > 0).all()


def test_they_gain_most_for_their_distance_from_equal_ones():
    """No weights of the simplex have a larger <w, f> - r KL(w || equal)."""
    losses, r = numbers(5), 0.4
    found = loss_weights(losses, loss_temperature=r)

    def gain(weights):
        return weights @ found.worth - r * (weights * jnp.log(weights * 5)).sum()

    best = gain(found.weights)
    for seed in range(20):
        other = jax.nn.softmax(jax.random.normal(jax.random.key(seed), (5,)))
        assert gain(other) <= best + 1e-6
    sharp = loss_weights(losses, loss_map="upper", loss_temperature=1e-3).weights
    assert sharp.argmax() == losses.argmax() and sharp.max() > 0.99
    assert not jax.grad(lambda x: loss_weights(x).weights[0])(losses).any()


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"loss_map": "lower"}, "loss_map is 'lower'; it must be one of 'linupper'"),
        ({"loss_temperature": 0.0}, "loss_temperature is 0.0; it must be > 0"),
        ({"loss_delta": -1.0}, "loss_delta is -1.0; it must be > 0"),
    ],
)
def test_bad_fields_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        loss_weights(jnp.ones(2), **fields)
