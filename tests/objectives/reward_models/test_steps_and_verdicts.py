"""Process and generative rewards: losses by hand, and what their minimum is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.reward_models import binary, step_binary, verdict
from rljax.objectives.reward_models.steps import last_steps

ENDS = jnp.array([[[0, 1, 0, 1, 1]], [[1, 0, 0, 0, 0]]], bool)
LABELS = jnp.array([[[0, 1, 0, 0, 1]], [[0, 0, 0, 0, 0]]], bool)
SCORES = jnp.array([[[9.0, 0.5, 9.0, -1.0, 2.0]], [[0.25, 9.0, 9.0, 9.0, 9.0]]])
MEAN_STEPS = jnp.full(2, 2.0)


def softplus(x):
    return np.log1p(np.exp(x))


def test_the_loss_of_steps_is_the_mean_over_all_of_them():
    loss, metrics = step_binary(SCORES, LABELS, ENDS, MEAN_STEPS)
    each = softplus(np.array([-0.5, -1.0, -2.0, 0.25]))
    assert float(loss.mean()) == pytest.approx(each.mean(), rel=1e-6)
    np.testing.assert_allclose(loss, [each[:3].sum() / 2, each[3] / 2], rtol=1e-6)
    assert float(metrics["reward_accuracy"].mean()) == pytest.approx(3 / 4)
    assert float(metrics["positive_share"].mean()) == pytest.approx(2 / 4)
    assert float(metrics["score_mean"].mean()) == pytest.approx(np.mean([0.5, -1, 2, 0.25]))


def test_only_the_tokens_at_the_ends_learn():
    gradient = jax.grad(lambda s: step_binary(s, LABELS, ENDS, MEAN_STEPS)[0].mean())(SCORES)
    assert ((np.asarray(gradient) != 0) == np.asarray(ENDS)).all()
    last = jax.grad(
        lambda s: step_binary(s, LABELS, ENDS, MEAN_STEPS, last_step_only=True)[0].mean()
    )(SCORES)
    assert np.argwhere(np.asarray(last)).tolist() == [[0, 0, 4], [1, 0, 0]]


def test_the_last_step_alone_is_an_outcome_reward():
    loss, _ = step_binary(SCORES, LABELS, ENDS, MEAN_STEPS, last_step_only=True)
    scores = jnp.array([[2.0], [0.25]])
    expected, _ = binary(scores, jnp.array([[True], [False]]), jnp.ones((2, 1), bool))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert last_steps(jnp.zeros((2, 4), bool)).sum() == 0


def test_two_classes_of_a_token_are_one_score():
    """TRL's token classification with two logits is this loss of their difference."""
    logits = jax.random.normal(jax.random.key(0), (*SCORES.shape, 2))
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[..., None].astype(int), axis=-1)[
        ..., 0
    ]
    expected = jnp.where(ENDS, each, 0.0).sum() / ENDS.sum()
    loss, _ = step_binary(logits[..., 1] - logits[..., 0], LABELS, ENDS, MEAN_STEPS)
    assert float(loss.mean()) == pytest.approx(float(expected), rel=1e-6)


def test_the_verdict_is_the_likelihood_of_the_right_token():
    good, bad = jnp.log(jnp.array([[0.5, 0.1]])), jnp.log(jnp.array([[0.25, 0.8]]))
    labels, present = jnp.array([[True, False]]), jnp.ones((1, 2), bool)
    loss, metrics = verdict(good, bad, labels, present)
    assert float(loss[0]) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-6)
    assert float(metrics["reward_accuracy"].mean()) == 1.0
    assert float(metrics["verdict_share"].mean()) == pytest.approx((0.75 + 0.9) / 2)
    one, _ = verdict(good, bad, labels, jnp.array([[True, False]]))
    assert float(one[0]) == pytest.approx(-np.log(0.5), rel=1e-6)
    none, _ = verdict(good, bad, labels, jnp.zeros((1, 2), bool))
    assert float(none[0]) == 0.0


def test_the_best_verdict_is_the_share_of_good_labels():
    """Of a completion that is labelled good in three of four rows."""
    labels, present = jnp.array([[True], [True], [True], [False]]), jnp.ones((4, 1), bool)

    def loss(logits):
        says = jax.nn.log_softmax(logits)
        good, bad = jnp.broadcast_to(says[0], (4, 1)), jnp.broadcast_to(says[1], (4, 1))
        return verdict(good, bad, labels, present)[0].mean()

    logits = jax.lax.fori_loop(0, 2000, lambda _, x: x - jax.grad(loss)(x), jnp.zeros(5))
    says = jax.nn.log_softmax(logits)
    assert float(jax.nn.sigmoid(says[0] - says[1])) == pytest.approx(0.75, abs=1e-3)
    assert float(jnp.exp(says[:2]).sum()) == pytest.approx(1.0, abs=5e-3)
