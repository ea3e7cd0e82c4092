"""Losses on labels and ratings against hand values and against Bradley-Terry."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.reward_models import (
    all_pairs,
    binary,
    bradley_terry,
    plackett_luce,
    rated_margin,
    regression,
)

SCORES = jnp.array([[1.0, -0.5, 0.5, 9.0], [0.5, 2.0, -1.0, 0.0]])
RATINGS = jnp.array([[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 0.0, 4.0]])
PRESENT = jnp.array([[True, True, True, False], [True, True, True, True]])


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_margins_of_the_data_are_those_of_bradley_terry():
    chosen, rejected = SCORES[:, 0], SCORES[:, 1]
    margins = jnp.array([1.0, 1 / 3])
    found, _ = rated_margin(chosen, rejected, margins, margin_scale=2.0)
    np.testing.assert_allclose(found, -np.log(sigmoid([1.5 - 2, -1.5 - 2 / 3])), rtol=1e-6)
    plain, _ = bradley_terry(chosen, rejected)
    np.testing.assert_allclose(rated_margin(chosen, rejected, 0 * margins)[0], plain, rtol=1e-6)


def test_binary_by_hand():
    labels = jnp.array([[True, False, True, True], [False, False, True, True]])
    found, metrics = binary(SCORES, labels, PRESENT, positive_weight=3.0)
    each = np.where(labels, -3 * np.log(sigmoid(SCORES)), -np.log(sigmoid(-SCORES)))
    expected = [each[0, :3].mean(), each[1].mean()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # All of row 0; of row 1 none: 0.5 and 2.0 are not good, -1.0 and 0.0 are.
    assert float(metrics["reward_accuracy"].mean()) == pytest.approx(3 / 7)
    assert float(metrics["positive_share"].mean()) == pytest.approx(4 / 7)
    nothing, _ = binary(SCORES, labels, jnp.zeros_like(PRESENT))
    np.testing.assert_array_equal(nothing, 0)


def test_the_optimum_of_binary_is_the_share_of_good_labels():
    labels = jnp.array([[True], [True], [False], [True]])
    there = jnp.ones((4, 1), bool)

    def total(score):
        return binary(jnp.full((4, 1), score), labels, there)[0].sum()

    assert float(jax.grad(total)(jnp.log(3.0))) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="positive_weight.*> 0"):
        binary(SCORES, SCORES > 0, PRESENT, positive_weight=0.0)


def test_regression_is_the_mean_square_of_what_is_there():
    found, metrics = regression(SCORES, RATINGS, PRESENT)
    squares = (np.asarray(SCORES) - np.asarray(RATINGS)) ** 2
    np.testing.assert_allclose(found, [squares[0, :3].mean(), squares[1].mean()], rtol=1e-6)
    assert float(metrics["squared_error"].mean()) == pytest.approx(
        (squares[0, :3].sum() + squares[1].sum()) / 7
    )


def test_all_pairs_counts_a_prompt_once():
    found, metrics = all_pairs(SCORES, RATINGS, PRESENT)
    expected, right = [], []
    for scores, ratings, there in zip(SCORES, RATINGS, PRESENT, strict=True):
        pairs = [
            float(scores[i] - scores[j])
            for i, j in itertools.permutations(range(4), 2)
            if there[i] and there[j] and ratings[i] > ratings[j]
        ]
        expected.append(np.mean(-np.log(sigmoid(pairs))))
        right += [gap > 0 for gap in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(right) == 3 + 5  # a tie is no pair
    assert float(metrics["reward_accuracy"].mean()) == pytest.approx(np.mean(right))


def test_plackett_luce_is_a_product_of_softmaxes():
    """Row 0 in its order: 1.0, 0.5, -0.5; what is not there is never chosen."""
    found, _ = plackett_luce(SCORES, RATINGS, PRESENT)
    order = np.array([1.0, 0.5, -0.5])
    expected = sum(np.log(np.exp(order[k:]).sum()) - order[k] for k in range(3))
    assert float(found[0]) == pytest.approx(expected, rel=1e-6)
    # Row 1: 0.0 before the tie 0.5, 2.0, each before -1.0.
    terms = [np.log(np.exp([0, 0.5, 2, -1]).sum()) - 0]
    terms += [np.log(np.exp([r, -1]).sum()) - r for r in (0.5, 2.0)]
    assert float(found[1]) == pytest.approx(sum(terms), rel=1e-6)


@pytest.mark.parametrize("loss", [all_pairs, plackett_luce])
def test_rankings_of_two_are_bradley_terry(loss):
    scores, ratings = SCORES[:, :2], jnp.array([[2.0, 1.0], [-3.0, 0.0]])
    there = jnp.ones((2, 2), bool)
    chosen, rejected = jnp.array([1.0, 2.0]), jnp.array([-0.5, 0.5])
    expected, _ = bradley_terry(chosen, rejected)
    np.testing.assert_allclose(loss(scores, ratings, there)[0], expected, rtol=1e-6)
    shifted, _ = loss(scores + 5.0, ratings, there)
    np.testing.assert_allclose(shifted, expected, rtol=1e-5)
    tied, _ = loss(scores, jnp.ones((2, 2)), there)
    np.testing.assert_allclose(tied, 0, atol=1e-7)


@pytest.mark.parametrize("loss", [regression, all_pairs, plackett_luce])
def test_gradients_are_finite_and_nothing_flows_into_what_is_not_there(loss):
    def total(scores):
        return loss(scores, RATINGS, PRESENT)[0].sum()

    check_grads(total, (SCORES,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    gradient = jax.grad(total)(SCORES.at[0, 3].set(1e30))
    assert np.isfinite(gradient).all() and gradient[0, 3] == 0 and np.abs(gradient[0, :3]).min() > 0
    empty = jax.grad(lambda s: loss(s, RATINGS, jnp.zeros_like(PRESENT))[0].sum())(SCORES)
    np.testing.assert_array_equal(empty, 0)
