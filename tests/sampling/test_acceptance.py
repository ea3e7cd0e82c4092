"""Which draws of a denoising step are kept, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.schema import DIFFUSION
from rljax.sampling.acceptance import (
    OF_MODEL,
    REMASKING,
    log_probability,
    margin,
    negative_entropy,
    ranks_of,
    within_bound,
)

P = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [1 / 3, 1 / 3, 1 / 3]])
LOGITS, TOKENS = jnp.log(jnp.asarray(P)) + 4.0, jnp.array([1, 0, 2])


def test_how_sure_a_draw_is():
    np.testing.assert_allclose(
        log_probability(LOGITS, TOKENS), np.log([0.3, 0.9, 1 / 3]), rtol=1e-5
    )
    np.testing.assert_allclose(margin(LOGITS, TOKENS), [0.2, 0.85, 0.0], atol=1e-6)
    np.testing.assert_allclose(
        negative_entropy(LOGITS, TOKENS), (P * np.log(P)).sum(axis=1), rtol=1e-5
    )
    # The orders differ: of the drawn token, the second position's second choice is not sure.
    assert ranks_of(log_probability(LOGITS, jnp.array([0, 1, 0]))[None]).tolist() == [[0, 2, 1]]
    assert ranks_of(margin(LOGITS, TOKENS)[None]).tolist() == [[1, 0, 2]]
    assert set(OF_MODEL) < set(REMASKING) and DIFFUSION["remasking"].choices == REMASKING


@pytest.mark.parametrize(
    "bound, kept",
    [(0.0, 1), (0.2, 2), (0.69, 2), (0.71, 3), (1.3, 3), (1.5, 4), (9.0, 4)],
)
def test_an_entropy_bound_keeps_what_adds_up_to_it_beside_the_largest(bound, kept):
    """Sorted 0.2, 0.5, 0.7, 0.9: without the largest 0, 0.2, 0.7, 1.4."""
    entropies = jnp.array([[0.9, 0.2, 5.0, 0.7, 0.5]])
    still_open = jnp.array([[True, True, False, True, True]])
    ranks = ranks_of(jnp.where(still_open, -entropies, -jnp.inf))
    assert within_bound(ranks, entropies, still_open, bound).tolist() == [kept]


def test_an_entropy_bound_keeps_the_order_of_the_ranks():
    """By another order the largest entropy comes first, and one more after it is still within."""
    entropies, still_open = jnp.array([[0.9, 0.2, 0.3]]), jnp.ones((1, 3), bool)
    ranks = jnp.array([[0, 1, 2]])
    for bound, kept in ((0.1, 1), (0.21, 2), (0.45, 2), (0.51, 3)):
        assert within_bound(ranks, entropies, still_open, bound).tolist() == [kept]
    closed = jnp.zeros((1, 3), bool)
    assert within_bound(ranks, entropies, closed, 1.0).tolist() == [0]
