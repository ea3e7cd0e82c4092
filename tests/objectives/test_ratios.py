import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.aggregation import sequence_mean_token_mean
from rljax.objectives.ratios import RATIOS, SEQUENCE_LOG_RATIO_CAP
from rljax.objectives.surrogates import clipped

MASK = jnp.array([[True, True, True, False], [True, True, False, False], [False] * 4])
NEW = jnp.array([[-1.0, -2.0, -0.5, jnp.nan], [-1.5, -0.3, -jnp.inf, 0.0], [jnp.nan] * 4])
OLD = jnp.array([[-1.3, -1.9, -0.6, 0.0], [-1.0, -0.4, 0.0, jnp.inf], [0.0] * 4])
# Rows' means of the differences 0.3, -0.1, 0.1 and -0.5, 0.1.
MEANS = np.array([0.1, -0.2, 0.0])


def test_sequence_ratio_is_the_geometric_mean_on_every_token():
    value = RATIOS["sequence"](NEW, OLD, MASK)
    np.testing.assert_allclose(value, np.where(MASK, MEANS[:, None], 0.0), rtol=1e-5)


@pytest.mark.parametrize("ratio", ["sequence", "segment"])
def test_every_token_carries_its_own_gradient(ratio):
    ids = (jnp.zeros(MASK.shape, int),) if ratio == "segment" else ()
    weights = jnp.arange(12.0).reshape(3, 4)
    slope = jax.grad(lambda lp: (weights * RATIOS[ratio](lp, OLD, MASK, *ids)).sum())(NEW)
    np.testing.assert_array_equal(slope, weights * MASK)
    constant = jax.grad(lambda old: RATIOS[ratio](NEW, old, MASK, *ids).sum())(OLD)
    np.testing.assert_array_equal(constant, 0.0)


def test_sequence_ratio_is_capped():
    far = jnp.where(MASK, OLD + 15.0, 0.0)
    value = RATIOS["sequence"](far, OLD, MASK)
    np.testing.assert_array_equal(value, jnp.where(MASK, SEQUENCE_LOG_RATIO_CAP, 0.0))
    slope = jax.grad(lambda lp: RATIOS["sequence"](lp, OLD, MASK).sum())(far)
    np.testing.assert_array_equal(slope, 0.0)


def test_the_ratio_of_a_whole_sample_is_not_divided_by_its_length():
    """Sums of the differences: 0.3 and -0.4; each token has its own gradient."""
    value = RATIOS["sequence_sum"](NEW, OLD, MASK)
    expected = np.where(MASK, np.array([0.3, -0.4, 0.0])[:, None], 0.0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    slope = jax.grad(lambda lp: RATIOS["sequence_sum"](lp, OLD, MASK).sum())(NEW)
    np.testing.assert_array_equal(slope, MASK)


def test_with_one_token_per_row_the_sequence_ratio_is_the_token_ratio():
    first = MASK & (jnp.arange(4) == 0)
    np.testing.assert_allclose(
        RATIOS["sequence"](NEW, OLD, first), RATIOS["token"](NEW, OLD, first), rtol=1e-6
    )


def test_the_mean_of_token_losses_is_the_loss_of_the_sequence_ratio():
    """GSPO by its own formula: the ratio of a row, differentiated as a whole."""
    new, old = jnp.where(MASK, NEW, 0.0), jnp.where(MASK, OLD, 0.0)
    advantage = jnp.array([[1.0], [-2.0], [3.0]])
    weights = sequence_mean_token_mean(MASK)

    def ours(lp):
        log_ratio = RATIOS["sequence"](lp, old, MASK)
        loss, _ = clipped(log_ratio, lp, advantage * MASK, MASK, clip_low=0.3, clip_high=0.2)
        return (weights * loss).sum()

    def published(lp):
        length = jnp.maximum(MASK.sum(-1, keepdims=True), 1)
        s = jnp.exp((MASK * (lp - old)).sum(-1, keepdims=True) / length)
        loss = jnp.maximum(-s * advantage, -jnp.clip(s, 0.7, 1.2) * advantage)
        return loss[:2].mean()  # the empty row is not there

    for a, b in zip(jax.value_and_grad(ours)(new), jax.value_and_grad(published)(new), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_segment_ratio_multiplies_the_tokens_of_a_segment():
    ids = jnp.array([[0, 1, 1, 0], [1, 1, 0, 0], [0] * 4])
    value = RATIOS["segment"](NEW, OLD, MASK, ids)
    expected = [[0.3, 0.0, 0.0, 0.0], [-0.4, -0.4, 0.0, 0.0], [0.0] * 4]
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_segments_of_one_token_are_tokens():
    ids = jnp.broadcast_to(jnp.arange(4), MASK.shape)
    np.testing.assert_allclose(
        RATIOS["segment"](NEW, OLD, MASK, ids), RATIOS["token"](NEW, OLD, MASK), rtol=1e-6
    )
