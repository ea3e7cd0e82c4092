import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs.ranking import highest, lowest, nearest_quantile, share_of

KEYS = jnp.array([[3.0, jnp.nan, 1.0], [1.0, 2.0, -jnp.inf], [1.0, 5.0, jnp.inf]])
CANDIDATES = jnp.array([[True, False, True], [True, True, False], [True, True, True]])


@pytest.mark.parametrize("count", range(9))
def test_exactly_so_many_are_taken(count):
    for pick in (lowest, highest):
        chosen = jax.jit(pick)(KEYS, CANDIDATES, count)
        assert int(chosen.sum()) == min(count, 7)
        assert not bool((chosen & ~CANDIDATES).any())


def test_the_first_of_equal_keys_is_taken():
    np.testing.assert_array_equal(
        lowest(KEYS, CANDIDATES, 2), [[False, False, True], [True, False, False], [False] * 3]
    )
    np.testing.assert_array_equal(
        highest(KEYS, CANDIDATES, 2), [[False] * 3, [False] * 3, [False, True, True]]
    )


def test_a_traced_share_may_be_vmapped():
    shares = jnp.array([0.0, 0.3, 1.0])
    counts = jax.jit(jax.vmap(lambda s: lowest(KEYS, CANDIDATES, share_of(CANDIDATES, s)).sum()))
    np.testing.assert_array_equal(counts(shares), [0, 2, 7])


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_nearest_quantile_agrees_with_numpy(quantile):
    values = jnp.array([[0.3, jnp.nan, 2.0], [-1.0, 0.5, 7.0]])
    mask = jnp.isfinite(values)
    expected = np.quantile(np.asarray(values)[np.asarray(mask)], quantile, method="nearest")
    np.testing.assert_allclose(nearest_quantile(values, mask, quantile), expected)
    assert nearest_quantile(values, jnp.zeros_like(mask), quantile) == 0
