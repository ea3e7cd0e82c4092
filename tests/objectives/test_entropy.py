import jax
import jax.numpy as jnp
import numpy as np

from rljax.objectives.entropy import entropy


def test_hand_values():
    logits = jnp.log(jnp.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125]]))
    np.testing.assert_allclose(entropy(logits), [np.log(4), 1.75 * np.log(2)], rtol=1e-6)


def test_gradient_at_hand_values():
    logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    p, h = np.array([0.5, 0.25, 0.25]), 1.5 * np.log(2)
    np.testing.assert_allclose(jax.grad(entropy)(logits), -p * (np.log(p) + h), rtol=1e-5)


def test_impossible_outcomes_contribute_nothing():
    logits = jnp.array([0.3, -jnp.inf, -0.5])
    np.testing.assert_allclose(entropy(logits), entropy(logits[jnp.array([0, 2])]), rtol=1e-6)
    gradient = jax.grad(entropy)(logits)
    assert np.isfinite(gradient).all() and gradient[1] == 0.0


def test_a_certain_outcome_has_no_entropy():
    np.testing.assert_allclose(entropy(jnp.array([0.0, -jnp.inf])), 0.0)
    np.testing.assert_allclose(entropy(jnp.array([1000.0, 0.0])), 0.0, atol=1e-6)
