import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.kl import KL_ESTIMATORS, RIGHT_IN_GRADIENT, warn_if_useless

POLICY = jnp.array([0.3, -0.4, 0.9])  # logits over three tokens
REF = jnp.array([0.1, 0.5, -0.2])


def log_policy(logits):
    return jax.nn.log_softmax(logits)


def kl(p, q):
    return jnp.sum(jnp.exp(p) * (p - q))


def estimates(name, logits):
    """The estimator on each of the three tokens, [3]."""
    logprobs = log_policy(logits)[:, None]
    return KL_ESTIMATORS[name](logprobs, log_policy(REF)[:, None], jnp.ones((3, 1), bool))[:, 0]


def expected_value(name):
    return jnp.exp(log_policy(POLICY)) @ estimates(name, POLICY)


def expected_gradient(name):
    """Mean over tokens drawn from the policy of the gradient of the estimator as a loss."""
    per_token = jax.jacobian(lambda logits: estimates(name, logits))(POLICY)
    return jnp.exp(log_policy(POLICY)) @ per_token


FORWARD = jax.grad(lambda logits: kl(log_policy(logits), log_policy(REF)))(POLICY)
REVERSE = jax.grad(lambda logits: kl(log_policy(REF), log_policy(logits)))(POLICY)


@pytest.mark.parametrize("name", ["k1", "k3", "k1_plus", "k3_plus"])
def test_values_are_unbiased(name):
    expected = kl(log_policy(POLICY), log_policy(REF))
    np.testing.assert_allclose(expected_value(name), expected, rtol=1e-5)


def test_k2_is_half_the_mean_square():
    x = log_policy(POLICY) - log_policy(REF)
    np.testing.assert_allclose(estimates("k2", POLICY), x**2 / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("k1", jnp.zeros(3)),
        ("k2", FORWARD),
        ("k3", REVERSE),
        ("k1_plus", FORWARD),
        ("k3_plus", FORWARD),
    ],
)
def test_expected_gradients_as_a_loss(name, expected):
    np.testing.assert_allclose(expected_gradient(name), expected, atol=1e-6)
    assert np.abs(FORWARD - REVERSE).max() > 0.05  # the two directions are told apart


def test_k3_is_never_negative_and_exact_for_tiny_differences():
    x = jnp.array([[-2.0, -1e-3, 0.0, 1e-3, 3.0]])
    value = KL_ESTIMATORS["k3"](x, 0 * x, jnp.ones(x.shape, bool))
    assert (np.asarray(value) >= 0).all()
    exact = np.expm1(-np.float64(x)) + np.float64(x)
    np.testing.assert_allclose(value, exact, rtol=1e-3, atol=1e-12)


def test_k3_is_clamped():
    x = jnp.array([[-30.0, -5.0, 100.0]])
    mask = jnp.ones(x.shape, bool)
    np.testing.assert_array_equal(KL_ESTIMATORS["k3"](x, 0 * x, mask), 10.0)
    slope = jax.grad(lambda x: KL_ESTIMATORS["k3"](x, 0 * x, mask).sum())(x)
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_masked_slots_may_hold_anything_and_the_reference_is_constant(name):
    mask = jnp.array([[True, False, False]])
    logprobs = jnp.array([[-1.0, -jnp.inf, jnp.nan]])
    ref = jnp.array([[-1.5, jnp.nan, -jnp.inf]])

    def total(lp, ref):
        return KL_ESTIMATORS[name](lp, ref, mask).sum()

    value, (gradient, ref_gradient) = jax.value_and_grad(total, (0, 1))(logprobs, ref)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, 1:], 0.0)
    np.testing.assert_array_equal(ref_gradient, 0.0)


@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_no_difference_no_kl(name):
    x = jnp.array([[-1.0, -2.0]])
    mask = jnp.ones(x.shape, bool)
    np.testing.assert_array_equal(jax.jit(KL_ESTIMATORS[name])(x, x, mask), 0.0)


def test_right_in_gradient_names_the_right_ones():
    assert {n for n, f in KL_ESTIMATORS.items() if f in RIGHT_IN_GRADIENT} == {
        "k2",
        "k2_sequence",
        "k1_plus",
        "k3_plus",
    }


def test_k1_as_a_loss_warns():
    with pytest.warns(UserWarning, match="zero expected gradient"):
        warn_if_useless("k1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in set(KL_ESTIMATORS) - {"k1"}:
            warn_if_useless(name)
