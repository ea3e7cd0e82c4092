import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.registry import resolve_objective

# Three rows of 3, 1 and 0 tokens, with a hole.
MASK = jnp.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]).astype(bool)
LOSS = jnp.array([[1.0, 9.0, 2.0, 3.0], [9.0, 4.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0]])


def weights_of(mask, aggregation, length=None):
    """Through the method table, as in training."""
    fields = {"aggregation": aggregation, "aggregation_length": length}
    return resolve_objective("dapo", fields).part("aggregation")(mask)


@pytest.mark.parametrize(
    "aggregation, length, expected",
    [
        ("token_mean", None, 10 / 4),
        ("token_sum", None, 10.0),
        ("sequence_mean_token_sum", None, (6 + 4) / 2),
        ("sequence_mean_token_mean", None, (2 + 4) / 2),
        ("sequence_mean_token_scale", None, (6 + 4) / 2 / 4),
        ("sequence_mean_token_scale", 10, (6 + 4) / 2 / 10),
    ],
)
def test_hand_values(aggregation, length, expected):
    weights = weights_of(MASK, aggregation, length)
    np.testing.assert_allclose(jnp.sum(weights * LOSS), expected, rtol=1e-6)
    np.testing.assert_array_equal(weights * ~MASK, 0.0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_an_all_masked_batch_weighs_nothing(aggregation):
    weights = weights_of(jnp.zeros((2, 3), bool), aggregation)
    np.testing.assert_array_equal(weights, np.zeros((2, 3)))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2), (2, 5)])
def test_every_micro_batch_split_gives_the_same_loss(aggregation, cuts):
    mask = jax.random.bernoulli(jax.random.key(0), 0.5, (6, 5)).at[2].set(False)
    loss = jax.random.normal(jax.random.key(1), (6, 5))
    weights = weights_of(mask, aggregation)
    parts = zip(np.split(weights, cuts), np.split(loss, cuts), strict=True)
    np.testing.assert_allclose(
        sum(float((w * part).sum()) for w, part in parts), (weights * loss).sum(), rtol=1e-5
    )


def test_mean_of_micro_batch_means_would_not():
    halves = [weights_of(MASK[i : i + 1], "token_mean") for i in range(2)]
    means = [float((w * LOSS[i : i + 1]).sum()) for i, w in enumerate(halves)]
    assert np.mean(means) == 3.0  # the token mean of the whole is 2.5


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_padding_columns_and_rows_change_nothing(aggregation):
    length = 4 if aggregation == "sequence_mean_token_scale" else None
    padded = jnp.pad(MASK, ((0, 2), (0, 3)))
    weights = weights_of(padded, aggregation, length)
    expected = weights_of(MASK, aggregation, length)
    np.testing.assert_allclose(weights[:3, :4], expected, rtol=1e-6)
    np.testing.assert_array_equal(weights[3:], 0.0)


def test_scale_by_the_padded_length_depends_on_padding():
    padded = jnp.pad(MASK, ((0, 0), (0, 4)))
    one, other = (weights_of(m, "sequence_mean_token_scale") for m in (MASK, padded))
    np.testing.assert_allclose(one.sum(), 2 * other.sum(), rtol=1e-6)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_rows_permute_with_the_batch_and_jit_agrees(aggregation):
    order = jnp.array([2, 0, 1])
    jitted = jax.jit(lambda m: weights_of(m, aggregation))
    expected = weights_of(MASK, aggregation)
    np.testing.assert_allclose(jitted(MASK[order]), expected[order], rtol=1e-6)


def test_a_length_that_is_not_read_is_an_error():
    with pytest.raises(ValueError, match="aggregation_length=7 is never read"):
        weights_of(MASK, "token_mean", 7)


@pytest.mark.parametrize("length", [0, -3])
def test_a_length_that_is_not_positive_is_an_error(length):
    part = AGGREGATIONS["sequence_mean_token_scale"]
    for compute in (
        lambda: part(MASK, aggregation_length=length),
        lambda: weights_of(MASK, "sequence_mean_token_scale", length),
    ):
        with pytest.raises(ValueError, match="positive"):
            compute()
