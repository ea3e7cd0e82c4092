"""Decoding by position, and whole rows, against the trunk; rows that begin at different times."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.by_position import decode_at, insert, whole_rows
from rljax.models.decoding import Decoder
from rljax.models.kv_cache import empty_cache
from rljax.models.prefill import prefill
from tests.models.test_decoding import NETWORKS
from tests.models.test_decoding import whole_rows as trunk_rows
from tests.sampling.tiny import network_of, params_of

SLOTS = 128  # two blocks of the cache
TOKENS = np.random.default_rng(1).integers(0, 13, (3, 80)).astype(np.int32)
LENGTHS = (3, 70, 9)  # of the prompts


@functools.cache
def programs(name: str):
    """prefill, insert and decode for the network of this name."""
    network = network_of(**NETWORKS[name])

    def decoder(params) -> Decoder:
        return Decoder.of(network, network.unstack(params), SLOTS)

    @jax.jit
    def compute(params, prompts, lengths):
        return prefill(decoder(params), prompts, lengths, shards=1, chunk_tokens=64)

    @jax.jit
    def decode(params, tokens, positions, used, cache):
        return decode_at(decoder(params), tokens, positions, used, cache)

    return network, params_of(network), compute, jax.jit(insert), decode


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_decode_as_the_trunk_computes_them(name):
    """Each row has its prompt in its slot, and goes on token by token, ten of them."""
    network, params, compute, put, decode = programs(name)
    cache = empty_cache(network.config, 3, SLOTS)
    for slot, length in enumerate(LENGTHS):
        prompt = np.zeros((1, 72), np.int32)
        prompt[0, 72 - length :] = TOKENS[slot, :length]
        prompts, _ = compute(params, prompt, jnp.array([length]))
        cache = put(cache, prompts.layers, jnp.int32(0), jnp.int32(slot))
    expected = trunk_rows(network, TOKENS, slots=80)
    positions = np.array(LENGTHS)
    for _ in range(10):
        tokens = TOKENS[np.arange(3), positions]
        used = jnp.int32(positions.max() + 1)
        hidden, cache = decode(params, tokens, positions, used, cache)
        np.testing.assert_allclose(hidden, expected[np.arange(3), positions], atol=2e-5)
        positions = positions + 1


def test_a_row_is_the_same_to_the_bit_beside_longer_ones():
    """Blocks that only others reach leave it as it is."""
    network, params, compute, put, decode = programs("plain")
    prompt = np.zeros((1, 72), np.int32)
    prompt[0, 69:] = TOKENS[0, :3]
    prompts, _ = compute(params, prompt, jnp.array([3]))
    empty = empty_cache(network.config, 3, SLOTS)
    cache = put(empty, prompts.layers, jnp.int32(0), jnp.int32(1))
    found = []
    for others in (0, 100):
        positions = np.array([others, 3, others])
        used = jnp.int32(positions.max() + 1)
        hidden, _ = decode(params, TOKENS[:, 3], positions, used, cache)
        found.append(np.asarray(hidden[1]).tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("slots", [24, 256])
def test_whole_rows_are_those_of_the_trunk(slots):
    """Also in several blocks of queries, with windows."""
    network = network_of(**NETWORKS["windows"])
    tokens = np.random.default_rng(2).integers(0, 13, (2, slots)).astype(np.int32)

    @jax.jit
    def rows(params, tokens):
        return whole_rows(Decoder.of(network, network.unstack(params), slots), tokens)

    found = rows(params_of(network), tokens)
    np.testing.assert_allclose(found, trunk_rows(network, tokens, slots=slots), atol=2e-5)
