"""Rows with holes, as episodes have: what was inserted between sampled tokens is not there.

Every part that gives tokens a number gives them the same one in a row with holes as in the row
without them, whatever stands in the holes.
"""

import functools

import jax
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.credit import SEGMENTATIONS
from rljax.objectives.parts import inputs_of
from tests.objectives.test_left_out_samples import ROWS, SLOTS, step

# Two holes of one and of three slots, elsewhere in each row.
WIDE = SLOTS + 4


def places():
    """[ROWS, SLOTS]: where each slot of a row without holes is in the one with holes."""
    first = 1 + np.arange(ROWS)[:, None] % 3
    slot = np.arange(SLOTS)
    return slot + (slot >= first) + 3 * (slot >= first + 2)


def with_holes(arrays, *, filled):
    """The same rows with holes that hold `filled`."""
    place = places()

    def wider(name, values):
        if np.ndim(values) < 2 or values.shape[1] != SLOTS:
            return values
        kind = values.dtype.kind
        fill = {"b": False, "i": 1}.get(kind, filled)
        whole = np.full((ROWS, WIDE, *values.shape[2:]), fill, values.dtype)
        whole[np.arange(ROWS)[:, None], place] = values
        return whole

    return {name: wider(name, values) for name, values in arrays.items()}


def rows():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 3, ROWS) / 2
    arrays = step(scores, np.arange(ROWS) // 4, lengths=rng.integers(1, SLOTS + 1, ROWS))
    values = rng.normal(size=(ROWS, SLOTS)).astype(np.float32)
    return arrays | {"values": np.where(arrays["mask"], values, np.float32(0))}


@functools.cache
def jitted(part):
    return jax.jit(part)


@pytest.mark.parametrize("filled", [0.0, 55.0])
@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_advantages_do_not_see_holes(name, filled):
    arrays, part = rows(), jitted(ADVANTAGES[name])
    inputs = inputs_of(ADVANTAGES[name])
    expected = np.asarray(part(*(arrays[key] for key in inputs)))
    wide = with_holes(arrays, filled=filled)
    got = np.asarray(part(*(wide[key] for key in inputs)))
    there = np.take_along_axis(got, places(), axis=1)
    mask = arrays["mask"]
    np.testing.assert_allclose(there[mask], expected[mask], rtol=2e-5, atol=1e-6)
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("name", sorted(set(SEGMENTATIONS) - {"turns", "trajectory"}))
def test_segments_do_not_see_holes(name):
    arrays, part = rows(), jitted(SEGMENTATIONS[name])
    rng = np.random.default_rng(3)
    arrays["tokens"] = rng.integers(0, 4, (ROWS, SLOTS)).astype(np.int32)
    arrays["noise"] = np.broadcast_to(rng.uniform(size=(ROWS, 1)).astype(np.float32), (ROWS, SLOTS))
    arrays["ref_logprobs"] = arrays["old_logprobs"]
    inputs = inputs_of(SEGMENTATIONS[name])
    expected = np.asarray(part(*(arrays[key] for key in inputs)))
    wide = with_holes(arrays, filled=-55.0)
    got = np.asarray(part(*(wide[key] for key in inputs)))
    there = np.take_along_axis(got, places(), axis=1)
    np.testing.assert_array_equal(there[arrays["mask"]], expected[arrays["mask"]])
