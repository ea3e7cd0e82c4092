"""Losses of demonstrated tokens: closed gradients, and that the factors are constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.arrays import DISTRIBUTION_ARRAYS
from rljax.objectives.parts import inputs_of
from rljax.objectives.supervised import (
    TOKEN_LOSSES,
    TOKEN_WEIGHTS,
    anchor_loss,
    key_tokens,
    nll,
    probability_weighted,
)

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
TOKENS = np.array([[2, 0, 1], [3, 3, 0]])
MASK = np.array([[True, True, False], [False, True, True]])


def taken(logits):
    logp = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(logp, jnp.asarray(TOKENS)[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_the_gradient_is_that_of_the_likelihood_times_a_power_of_the_probability(power):
    def total(logits):
        return probability_weighted(taken(logits), MASK, probability_power=power)[0].sum()

    p = np.asarray(jax.nn.softmax(LOGITS))
    onehot = np.eye(4)[TOKENS]
    own = (p * onehot).sum(axis=-1, keepdims=True)
    expected = -(own**power) * (onehot - p) * MASK[..., None]
    np.testing.assert_allclose(jax.grad(total)(LOGITS), expected, rtol=1e-4, atol=1e-6)


def test_power_one_climbs_the_probability_and_power_zero_is_the_likelihood():
    def dft(logits):
        return probability_weighted(taken(logits), MASK)[0].sum()

    def probability(logits):
        return -jnp.where(MASK, jnp.exp(taken(logits)), 0.0).sum()

    np.testing.assert_allclose(
        jax.grad(dft)(LOGITS), jax.grad(probability)(LOGITS), rtol=1e-4, atol=1e-6
    )
    ours, _ = probability_weighted(taken(LOGITS), MASK, probability_power=0.0)
    np.testing.assert_allclose(ours, nll(taken(LOGITS), MASK)[0], rtol=1e-6)


@pytest.mark.parametrize("power", [-1.0, 1.0])
def test_what_is_masked_may_be_anything(power):
    logprobs = jnp.where(MASK, taken(LOGITS), jnp.nan)

    def total(logprobs):
        return probability_weighted(logprobs, MASK, probability_power=power)[0].sum()

    value, slope = jax.value_and_grad(total)(logprobs)
    assert np.isfinite(value) and np.isfinite(slope).all() and not slope[~MASK].any()


def test_an_anchor_counts_on_the_tokens_that_are_learned():
    divergence = jnp.array([[1.0, 2.0, jnp.nan], [jnp.nan, 3.0, 4.0]])
    loss, metrics = anchor_loss(divergence, jnp.asarray(MASK), anchor_weight=0.5)
    np.testing.assert_array_equal(loss, [[0.5, 1.0, 0.0], [0.0, 1.5, 2.0]])
    assert float(metrics["anchor_divergence"].mean()) == 2.5


def test_key_tokens_weigh_what_the_others_of_their_example_outnumber_them_by():
    """Two examples in a row: one key among three others, one among one; padding."""
    mask = jnp.array([[True, True, True, True, True, True, True, False]])
    key = jnp.array([[True, False, False, False, False, True, False, True]])
    value = jnp.array([[False, False, False, True, False, False, False, False]])
    ids = jnp.array([[1, 1, 1, 1, 1, 2, 2, 0]])
    found = key_tokens(mask, key, value, ids)
    np.testing.assert_allclose(found, [[3, 1, 1, 1, 1, 1, 1, 0]])
    np.testing.assert_allclose(key_tokens(mask, key, value, ids, key_weight_limit=2.0)[0, 0], 2)
    # The same example alone, and one without a key.
    np.testing.assert_allclose(
        key_tokens(mask[:, :5], key[:, :5], value[:, :5], ids[:, :5]), [[3, 1, 1, 1, 1]]
    )
    np.testing.assert_allclose(key_tokens(mask, key & False, value, ids), mask)
    with pytest.raises(ValueError, match="key_weight_limit is 0.5; it must be >= 1"):
        key_tokens(mask, key, value, ids, key_weight_limit=0.5)


def test_values_that_are_not_allowed_are_refused():
    with pytest.raises(ValueError, match=r"probability_power is 1.5; it must be in \[-1, 1\]"):
        probability_weighted(taken(LOGITS), MASK, probability_power=1.5)
    with pytest.raises(ValueError, match="anchor_weight is -1; it must be >= 0"):
        anchor_loss(taken(LOGITS), jnp.asarray(MASK), anchor_weight=-1)


def test_parts_read_arrays_that_are_described():
    parts = [*TOKEN_LOSSES.values(), TOKEN_WEIGHTS["key_tokens"], anchor_loss]
    assert {name for part in parts for name in inputs_of(part)} <= set(DISTRIBUTION_ARRAYS)
