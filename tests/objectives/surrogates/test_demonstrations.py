import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs import TOKEN_WEIGHTS
from rljax.objectives.surrogates import shaped_likelihood
from rljax.objectives.surrogates.demonstrations import unsure_likelihood


@pytest.mark.parametrize("probability", [1e-3, 0.1, 0.9])
def test_the_shaped_likelihood_has_the_published_gradient(probability):
    """LUFFY: weight 0.1 p / (p + 0.1)^2 on the gradient of the log-probability."""
    one = jnp.ones((1, 1))

    def loss(lp):
        return shaped_likelihood(lp * one, 2.0 * one, one.astype(bool))[0].sum()

    value, slope = jax.value_and_grad(loss)(jnp.log(probability))
    np.testing.assert_allclose(value, -2 * probability / (probability + 0.1), rtol=1e-5)
    expected = -2 * 0.1 * probability / (probability + 0.1) ** 2
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_without_shaping_it_is_the_likelihood():
    logprobs = jnp.log(jnp.array([[0.2, 0.5, 0.0]]))
    mask = jnp.array([[True, True, False]])
    loss, metrics = shaped_likelihood(logprobs, jnp.ones((1, 3)), mask, shaping=None)
    np.testing.assert_allclose(loss, [[-0.2, -0.5, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(metrics["demonstration_probability"].mean(), 0.35, rtol=1e-6)
    slope = jax.grad(lambda x: shaped_likelihood(x, jnp.ones((1, 3)), mask)[0].sum())(logprobs)
    assert np.isfinite(slope).all()


def test_shaping_must_be_positive():
    one = jnp.ones((1, 1))
    with pytest.raises(ValueError, match="shaping is 0.0"):
        shaped_likelihood(one, one, one.astype(bool), shaping=0.0)


def test_srft_weights_right_samples_by_their_mean_entropy():
    mask = jnp.array([[True, True, False], [True, False, False], [True, True, True]])
    entropy = jnp.array([[1.0, 3.0, jnp.nan], [0.5, 9.0, 9.0], [1.0, 1.0, 1.0]])
    advantages = jnp.array([[1.0], [1.0], [-1.0]]) * jnp.ones((3, 3))
    weights = TOKEN_WEIGHTS["srft"](entropy, advantages, mask)
    rows = np.array([0.1 * np.exp(2.0), 0.1 * np.exp(0.5), 1.0])
    np.testing.assert_allclose(weights, np.where(mask, rows[:, None], 1.0), rtol=1e-6)


def test_a_demonstration_that_the_policy_is_unsure_of_counts_less():
    """Mean entropies 2 and 0.5; they have no gradient."""
    mask = jnp.array([[True, True, False], [True, False, False]])
    entropy = jnp.array([[1.0, 3.0, jnp.nan], [0.5, 9.0, 9.0]])
    logprobs = jnp.array([[-1.0, -4.0, jnp.nan], [-2.0, 0.0, 0.0]])

    def loss(logprobs, entropy):
        return unsure_likelihood(logprobs, entropy, mask, demonstration_nll=0.5)[0]

    weights = 0.5 * np.exp([[-2.0], [-0.5]])
    expected = weights * np.array([[1.0, 4.0, 0.0], [2.0, 0.0, 0.0]])
    np.testing.assert_allclose(loss(logprobs, entropy), expected, rtol=1e-6)
    slopes = jax.grad(lambda *x: loss(*x).sum(), argnums=(0, 1))(logprobs, entropy)
    np.testing.assert_allclose(slopes[0], np.where(mask, -weights, 0.0), rtol=1e-6)
    np.testing.assert_array_equal(slopes[1], 0.0)
    metrics = unsure_likelihood(logprobs, entropy, mask, demonstration_nll=0.5)[1]
    assert metrics["demonstration_entropy"].mean() == pytest.approx(4.5 / 3)
