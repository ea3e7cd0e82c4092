"""Every address has its own noise, wherever it stands in a batch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from rljax.sampling.keys import Purpose, purpose_key, row_keys


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
