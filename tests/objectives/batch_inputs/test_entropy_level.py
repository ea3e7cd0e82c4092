import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs import BATCH_INPUTS

ENTROPY = jnp.exp(jnp.array([[-3.0, -1.0, 0.0, jnp.nan], [0.5, 1.0, -2.0, 7.0]]))
MASK = jnp.array([[True, True, True, False], [True, True, True, False]])
LEVEL = BATCH_INPUTS["entropy_level"]


def test_levels_are_signed_and_reach_both_ends():
    """Sorted logs -3, -2, -1, 0, 0.5, 1; the quantile 0.6 is the fourth: 0."""
    level = LEVEL(ENTROPY, MASK, entropy_pivot=0.6)
    expected = [[-1.0, -1 / 3, 0.0, 0.0], [0.5, 1.0, -2 / 3, 0.0]]
    np.testing.assert_allclose(level, expected, rtol=1e-5, atol=1e-7)


def test_the_released_code_has_no_negative_levels():
    signed = LEVEL(ENTROPY, MASK, entropy_pivot=0.6)
    released = LEVEL(ENTROPY, MASK, entropy_pivot=0.6, authors_unsigned_h=True)
    np.testing.assert_allclose(released, jnp.abs(signed), rtol=1e-6)


@pytest.mark.parametrize("pivot", [0.0, 1.0])
def test_a_pivot_at_an_end_leaves_one_sign(pivot):
    level = np.asarray(LEVEL(ENTROPY, MASK, entropy_pivot=pivot))[np.asarray(MASK)]
    assert (level >= 0).all() if pivot == 0 else (level <= 0).all()
    assert np.abs(level).max() == 1


def test_equal_entropies_and_empty_batches_have_level_zero():
    same = LEVEL(jnp.full((2, 4), 0.7), MASK)
    empty = LEVEL(ENTROPY, jnp.zeros_like(MASK))
    np.testing.assert_array_equal(same, 0.0)
    np.testing.assert_array_equal(empty, 0.0)


def test_zero_entropy_counts_as_the_floor():
    entropy = jnp.array([[0.0, 1e-8, 1.0, 0.5]])
    level = LEVEL(entropy, jnp.ones((1, 4), bool), entropy_pivot=0.6)
    np.testing.assert_array_equal(level[0, :2], [-1.0, -1.0])


def test_a_quantile_is_a_share():
    with pytest.raises(ValueError, match="entropy_pivot is 80"):
        LEVEL(ENTROPY, MASK, entropy_pivot=80)
