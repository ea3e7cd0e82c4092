from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.preference import (
    LINKS,
    SCORES,
    autoregressive_reward_loss,
    preference_loss,
)

LOGISTIC = LINKS["logistic"]
CHOSEN, REJECTED = jnp.array([-10.0, -20.0, -5.0]), jnp.array([-12.0, -18.0, -5.0])
REF_CHOSEN, REF_REJECTED = jnp.array([-11.0, -19.0, -6.0]), jnp.array([-11.0, -19.0, -6.0])


def loss(chosen=CHOSEN, rejected=REJECTED, beta=0.5, **link):
    return preference_loss(
        chosen, rejected, REF_CHOSEN, REF_REJECTED,
        score=SCORES["log_ratio"], link=partial(LOGISTIC, **link), beta=beta,
    )  # fmt: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_hand_values():
    # Margins: 1 - (-1), -1 - 1 and 1 - 1.
    np.testing.assert_allclose(loss()[0], -np.log(sigmoid([1.0, -1.0, 0.0])), rtol=1e-6)
    np.testing.assert_allclose(
        loss(label_smoothing=0.1)[0],
        -0.9 * np.log(sigmoid([1, -1, 0])) - 0.1 * np.log(sigmoid([-1, 1, 0])),
        rtol=1e-6,
    )


def test_metrics():
    metrics = {name: float(metric.mean()) for name, metric in loss()[1].items()}
    expected = {
        "reward_chosen": 0.5 * (1 - 1 + 1) / 3,
        "reward_rejected": 0.5 * (-1 + 1 + 1) / 3,
        "reward_margin": 0.0,
        "reward_accuracy": 1 / 3,  # a tie is no success
        "logprob_chosen": -35 / 3,
        "logprob_rejected": -35 / 3,
        "ranking_accuracy": 1 / 3,
        "displaced_share": 1 / 3,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_at_the_reference_the_loss_is_log_two():
    np.testing.assert_allclose(loss(REF_CHOSEN, REF_REJECTED)[0], np.log(2), rtol=1e-6)


def test_gradient_is_minus_beta_times_sigmoid_of_minus_beta_margin():
    gradients = jax.grad(lambda c, r: loss(c, r)[0].sum(), (0, 1))(CHOSEN, REJECTED)
    expected = 0.5 * sigmoid([-1.0, 1.0, 0.0])
    np.testing.assert_allclose(gradients[0], -expected, rtol=1e-6)
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-6)
    reference = jax.grad(
        lambda ref: preference_loss(
            CHOSEN, REJECTED, ref, REF_REJECTED,
            score=SCORES["log_ratio"], link=LOGISTIC, beta=0.5,
        )[0].sum()
    )(REF_CHOSEN)  # fmt: skip
    np.testing.assert_array_equal(reference, 0.0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradients_agree_with_finite_differences_and_jit(label_smoothing):
    margin = jnp.array([-3.0, 0.0, 0.4, 5.0])
    link = partial(LOGISTIC, beta=0.7, label_smoothing=label_smoothing)
    np.testing.assert_allclose(jax.jit(link)(margin), link(margin), rtol=1e-6)
    with jax.enable_x64(True):
        check_grads(lambda d: link(d).sum(), (np.asarray(margin, np.float64),), 1, ["rev"])


def test_extreme_margins_stay_finite():
    margin = jnp.array([-1e4, 1e4])
    value, gradient = jax.value_and_grad(lambda d: LOGISTIC(d, beta=1.0).sum())(margin)
    assert float(value) == 1e4
    np.testing.assert_array_equal(gradient, [-1.0, 0.0])


def test_label_smoothing_has_a_finite_optimum():
    slope = jax.grad(lambda d: LOGISTIC(d, beta=0.5, label_smoothing=0.1).sum())
    np.testing.assert_allclose(slope(jnp.array([np.log(9) / 0.5])), 0.0, atol=1e-7)


def test_a_constant_per_prompt_changes_nothing_and_neither_does_the_order():
    shift = jnp.array([3.0, -7.0, 0.5])
    np.testing.assert_allclose(loss(CHOSEN + shift, REJECTED + shift)[0], loss()[0], rtol=1e-5)
    order = jnp.array([2, 0, 1])
    permuted = preference_loss(
        CHOSEN[order], REJECTED[order], REF_CHOSEN[order], REF_REJECTED[order],
        score=SCORES["log_ratio"], link=LOGISTIC, beta=0.5,
    )[0]  # fmt: skip
    np.testing.assert_allclose(permuted, loss()[0][order], rtol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(beta=0.0), "beta is 0.0"),
        (dict(label_smoothing=0.5), "label_smoothing is 0.5"),
        (dict(label_smoothing=-0.1), "label_smoothing is -0.1"),
    ],
)
def test_impossible_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        LOGISTIC(jnp.zeros(1), **settings)


@pytest.mark.parametrize(
    "flips, label_smoothing, expected",
    [
        (0.0, 0.0, (0.8103, 0.1499, 0.0368, 0.0030)),
        (0.1, 0.0, (0.7417, 0.1906, 0.0594, 0.0083)),
        (0.0, 0.1, (0.7417, 0.1906, 0.0594, 0.0083)),
    ],
)
def test_the_population_minimiser_is_the_tilted_reference(flips, label_smoothing, expected):
    """One prompt, four answers, every pair weighted by its probability; Newton's method."""
    rewards, ref = jnp.array([1.0, 0.3, -0.2, -1.1]), jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))
    first, second = jnp.array([(i, j) for i in range(4) for j in range(4) if i != j]).T
    preferred = jax.nn.sigmoid(rewards[first] - rewards[second])
    preferred = (1 - flips) * preferred + flips * (1 - preferred)
    weight = jnp.exp(ref[first] + ref[second]) * preferred

    def population(logits):
        logprobs = jax.nn.log_softmax(logits)
        losses, _ = preference_loss(
            logprobs[first], logprobs[second], ref[first], ref[second],
            score=SCORES["log_ratio"],
            link=partial(LOGISTIC, label_smoothing=label_smoothing), beta=0.5,
        )  # fmt: skip
        return weight @ losses

    @jax.jit
    def newton(logits):
        # Logits are free up to a constant: the least-squares step ignores that direction.
        hessian = jax.hessian(population)(logits)
        return logits - jnp.linalg.pinv(hessian, rtol=1e-4) @ jax.grad(population)(logits)

    logits = ref
    for _ in range(12):
        logits = newton(logits)
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, atol=2e-4)


def test_reward_model_without_reference_by_hand():
    # beta * (chosen - rejected) is 1, -1 and 0; a margin of 0.5 is taken off.
    losses, metrics = autoregressive_reward_loss(
        CHOSEN, REJECTED, beta=0.5, margin=0.5, label_smoothing=0.1
    )
    expected = -0.9 * np.log(sigmoid([0.5, -1.5, -0.5])) - 0.1 * np.log(sigmoid([-0.5, 1.5, 0.5]))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    each = autoregressive_reward_loss(CHOSEN, REJECTED, beta=0.5, margin=jnp.array([0, 1.0, 2]))[0]
    np.testing.assert_allclose(each, -np.log(sigmoid([1.0, -2.0, -2.0])), rtol=1e-6)
    np.testing.assert_allclose(metrics["reward_chosen"].mean(), 0.5 * -35 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["reward_accuracy"].mean(), 1 / 3, rtol=1e-6)
    assert "displaced_share" not in metrics


def test_reward_model_without_reference_is_dpo_with_an_indifferent_one():
    losses, _ = autoregressive_reward_loss(CHOSEN, REJECTED, beta=0.3)
    same = jnp.array([-4.0, -7.0, -1.0])
    dpo, _ = preference_loss(
        CHOSEN, REJECTED, same, same, score=SCORES["log_ratio"], link=LOGISTIC, beta=0.3
    )
    np.testing.assert_allclose(losses, dpo, rtol=1e-6)
    for settings, message in [
        (dict(beta=0.0), "beta is 0.0"),
        (dict(label_smoothing=0.5), "label_smoothing is 0.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            autoregressive_reward_loss(CHOSEN, REJECTED, **settings)
