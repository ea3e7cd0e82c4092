import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.whitening import whiten

MASK = np.array([[True, True, False], [True, False, True]])
VALUES = np.array([[1.0, 2.0, np.nan], [4.0, np.inf, 9.0]], np.float32)


@pytest.mark.parametrize("unbiased", [True, False])
def test_mean_and_variance_over_the_tokens_that_count(unbiased):
    whitened = np.asarray(whiten(VALUES, MASK, unbiased=unbiased))
    kept = VALUES[MASK].astype(np.float64)
    expected = (kept - kept.mean()) / np.sqrt(kept.var(ddof=int(unbiased)) + 1e-8)
    np.testing.assert_allclose(whitened[MASK], expected, rtol=1e-6)
    np.testing.assert_array_equal(whitened[~MASK], 0.0)


def test_without_the_shift_the_mean_stays():
    whitened = np.asarray(whiten(VALUES, MASK, shift_mean=False))
    np.testing.assert_allclose(whitened[MASK].mean(), VALUES[MASK].mean(), rtol=1e-6)


def test_a_lone_token_and_an_empty_mask_are_left_alone():
    one = jnp.array([[True, False]])
    np.testing.assert_array_equal(whiten(jnp.array([[3.0, 5.0]]), one), [[3.0, 0.0]])
    np.testing.assert_array_equal(whiten(jnp.array([[3.0, jnp.nan]]), one & False), [[0.0, 0.0]])
