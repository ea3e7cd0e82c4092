"""Every address has its own noise, wherever it stands in a batch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.sampling.keys import Purpose, call_offsets, purpose_key, row_keys


def test_all_addresses_have_different_keys():
    rows = [
        jax.random.key_data(row_keys(purpose_key(seed, purpose), step, jnp.arange(4), 3))
        for seed, purpose, step in itertools.product(range(3), Purpose, range(4))
    ]
    keys = np.concatenate(rows)
    assert len(np.unique(keys, axis=0)) == len(keys) == 3 * len(Purpose) * 4 * 4 * 3


def test_keys_follow_the_address_not_the_place_in_the_batch():
    key = purpose_key(1, Purpose.ROLLOUTS)

    def data(ids, samples):
        return np.asarray(jax.random.key_data(row_keys(key, 5, jnp.array(ids), samples))).reshape(
            len(ids), samples, -1
        )

    few, many = data([7, 3], 2), data([1, 3, 9, 7], 5)
    np.testing.assert_array_equal(few[0], many[3, :2])
    np.testing.assert_array_equal(few[1], many[1, :2])


def test_traced_and_plain_steps_agree():
    key = purpose_key(0, Purpose.PAIRS)
    traced = jax.jit(lambda step: row_keys(key, step, jnp.arange(2), 2))(jnp.int32(11))
    assert (traced == row_keys(key, 11, jnp.arange(2), 2)).all()


def ids_of_calls(problems: int, prompts: int, calls: int) -> np.ndarray:
    """[calls, 2] the smallest and the largest id of each call, as 32 bits without a sign."""
    largest = problems * min(prompts, prompts // problems + 2) - 1
    ends = np.array([0, largest], np.int64).astype(np.int32)
    return (ends + call_offsets(problems, prompts, calls)[:, None]).view(np.uint32).astype(np.int64)


def test_calls_of_a_step_count_as_before_where_31_bits_suffice():
    np.testing.assert_array_equal(call_offsets(50, 8, 4), [0, 400, 800, 1200])
    assert call_offsets(3, 8, 2)[1] == 24


@pytest.mark.parametrize(
    "problems, prompts, calls",
    [(860_000, 512, 10), (860_000, 512, 100), (5_000_000, 512, 10), (1_000_000_000, 4, 1)],
)
def test_ids_of_many_calls_stay_apart_beyond_31_bits(problems, prompts, calls):
    ids = ids_of_calls(problems, prompts, calls)
    assert (ids[:, 0] < ids[:, 1]).all() and (ids[:-1, 1] < ids[1:, 0]).all()
    before = np.arange(calls, dtype=np.int64) * problems * prompts
    same = ids[:, 0] == before
    assert same[0] and same[before + 3 * problems < 2**31].all()
    key = purpose_key(0, Purpose.ROLLOUTS)
    wrapped = jnp.asarray(ids.reshape(-1).astype(np.uint32).view(np.int32))
    keys = np.asarray(jax.random.key_data(row_keys(key, 1, wrapped, 1)))
    assert len(np.unique(keys, axis=0)) == ids.size


def test_more_than_32_bits_are_refused():
    with pytest.raises(ValueError, match="32 bits.*config.<stage>.objective.filter_rounds"):
        call_offsets(100_000_000, 512, 50)
