"""Values and rewards on rows with padding; parity with transformers is in pretrained/."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.heads import process_rewards, sequence_rewards, token_values
from tests.tolerance import assert_same_sums

LENGTHS = (5, 3, 0)
WIDE = 7
TERMS = 2 * 100  # products in one output of two tiny layers


@pytest.fixture
def model(tiny_network, one_device):
    """A network with two scores a token, and its parameters; the bias is not zero."""
    network = tiny_network(head="process_reward", head_outputs=2, head_bias=True)
    params = network.init(jax.random.key(0), one_device)
    return network, params | {"head_bias": jnp.array([0.5, -2.0])}


def padded(side: str, pad: int) -> tuple[jax.Array, ...]:
    """The same three sequences, padded on one side with an id; one of them is empty."""
    random = np.random.default_rng(0)
    tokens = np.full((3, WIDE), pad, np.int32)
    segments = np.zeros((3, WIDE), np.int32)
    for row, length in enumerate(LENGTHS):
        part = slice(WIDE - length, WIDE) if side == "left" else slice(0, length)
        tokens[row, part] = random.integers(0, 13, length)
        segments[row, part] = 1
    positions = np.maximum(np.cumsum(segments, axis=1) - 1, 0)
    return jnp.asarray(tokens), jnp.asarray(positions), jnp.asarray(segments)


def test_padding_changes_nothing(model):
    network, params = model
    rewards, values = [], []
    for side, pad in (("left", 0), ("right", 12), ("right", 5)):
        rows = padded(side, pad)
        rewards.append(sequence_rewards(network, params, *rows))
        every = np.asarray(token_values(network, params, *rows))
        assert every.shape == (3, WIDE, 2) and every.dtype == np.float32
        present = np.asarray(rows[2]) > 0
        assert not every[~present].any()
        values.append(every[present])
    for other in (1, 2):
        assert_same_sums(rewards[other], rewards[0], TERMS)
        assert_same_sums(values[other], values[0], TERMS)


def test_the_reward_is_the_value_of_the_last_token(model):
    network, params = model
    rows = padded("right", 3)
    rewards = np.asarray(sequence_rewards(network, params, *rows))
    values = np.asarray(token_values(network, params, *rows))
    for row, length in enumerate(LENGTHS):
        expected = values[row, length - 1] if length else np.zeros(2)
        assert_same_sums(rewards[row], expected, TERMS)
    assert np.abs(rewards[:2]).min() > 1e-3


def test_an_ending_token_that_is_also_the_padding_counts(model):
    network, params = model
    tokens, positions, segments = padded("right", 4)
    ends = tokens.at[0, LENGTHS[0] - 1].set(4)
    reward = sequence_rewards(network, params, ends, positions, segments)
    values = token_values(network, params, ends, positions, segments)
    assert_same_sums(reward[0], values[0, LENGTHS[0] - 1], TERMS)


def test_scores_are_a_product_of_hidden_state_and_head(model):
    network, params = model
    rows = padded("left", 0)
    hidden = np.asarray(network.bind(params)(*rows).hidden, np.float64)
    expected = hidden @ np.asarray(params["head"], np.float64) + np.array([0.5, -2.0])
    found = np.asarray(token_values(network, params, *rows))
    present = np.asarray(rows[2]) > 0
    np.testing.assert_allclose(found[present], expected[present], atol=1e-5)


def test_process_rewards_are_read_at_the_ends_of_steps(model):
    network, params = model
    rows = padded("right", 0)
    steps = jnp.array([[1, 4, -1], [2, -1, -1], [-1, -1, -1]])
    found = np.asarray(process_rewards(network, params, *rows, steps))
    values = np.asarray(token_values(network, params, *rows))
    expected = np.zeros((3, 3, 2))
    expected[0, 0], expected[0, 1], expected[1, 0] = values[0, 1], values[0, 4], values[1, 2]
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_a_language_model_has_no_scores(tiny_network):
    with pytest.raises(ValueError, match="config.model.head"):
        token_values(tiny_network(), {}, *padded("left", 0))
