"""Ranks, ends and neighbours of True slots."""

import jax.numpy as jnp
import numpy as np

from rljax.objectives.credit.slots import (
    at_last_slot,
    last_slot,
    next_true,
    ranks,
    segments_from_starts,
)

MASK = jnp.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


def test_hand_values():
    np.testing.assert_array_equal(ranks(MASK), [[-1, 0, 1, 1, 2], [0] * 5, [-1] * 5])
    np.testing.assert_array_equal(
        last_slot(MASK), np.array([[0, 0, 0, 0, 1], [1, 0, 0, 0, 0], [0] * 5], bool)
    )
    values = jnp.where(MASK, jnp.arange(5.0), jnp.nan)
    np.testing.assert_array_equal(at_last_slot(values, MASK), [4.0, 0.0, 0.0])
    following = next_true(values, MASK, -1.0)
    np.testing.assert_array_equal(following, [[1, 2, 4, 4, -1], [-1] * 5, [-1] * 5])


def test_segments_begin_at_marks_inside_the_mask():
    starts = jnp.array([[1, 0, 0, 1, 1], [0] * 5, [1] * 5], bool)
    ids = segments_from_starts(starts, MASK)
    np.testing.assert_array_equal(ids[0][MASK[0]], [0, 0, 1])
    assert ids.dtype == jnp.int32 and int(ids.min()) == 0
    np.testing.assert_array_equal(ids[2], 0)
