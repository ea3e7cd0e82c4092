"""Chains of right samples, exactly: every state and proposal of a few chains is enumerated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.posterior import (
    CONTROL_VARIATES,
    accepted_proposals,
    chain_weights,
    net_weights,
    posterior_loss,
    right_share,
)

# Completions of one token, of which the first two are right; p of a right one is 0.4.
LOGITS = jnp.log(jnp.array([0.1, 0.3, 0.35, 0.25]))
RIGHT = jnp.array([True, True, False, False])


def weights_of(memory, proposal, variate="leave_one_out"):
    memory, proposal = jnp.array(memory, bool), jnp.array(proposal, bool)
    _, after = accepted_proposals(memory, proposal)
    return np.asarray(chain_weights(after, CONTROL_VARIATES[variate](after, proposal)))


def gradient(draws, weights):
    """-grad of the loss in the logits: draws [N] i32 are rows of one token, weights [N]."""

    def loss(logits):
        logprobs = jax.nn.log_softmax(logits)[draws][:, None]
        return posterior_loss(logprobs, jnp.ones(logprobs.shape, bool), weights)[0]

    return -jax.grad(loss)(LOGITS)


def test_a_step_by_hand():
    """Kept, refused, found, still wrong: the shares of the three right ones leave each out."""
    memory, proposal = [1, 1, 0, 0], [1, 0, 1, 0]
    accepted, after = accepted_proposals(jnp.array(memory, bool), jnp.array(proposal, bool))
    assert accepted.tolist() == [True, False, True, False]
    assert after.tolist() == [True, True, True, False]
    expected = [[1 / 3, -1 / 6], [1 / 3, -1 / 3], [1 / 3, -1 / 6], [0, 0]]
    np.testing.assert_allclose(weights_of(memory, proposal), expected, rtol=1e-6)
    net = [[1 / 6, 0], [1 / 3, -1 / 3], [1 / 6, 0], [0, 0]]
    np.testing.assert_allclose(net_weights(jnp.array(expected), accepted), net, rtol=1e-6)
    np.testing.assert_allclose(
        weights_of(memory, proposal, "none"), [[1 / 3, 0]] * 3 + [[0, 0]], rtol=1e-6
    )


def test_once_every_proposal_is_right_nothing_is_left_to_learn():
    weights = weights_of([1, 1, 1], [1, 1, 1])
    np.testing.assert_array_equal(net_weights(jnp.array(weights), jnp.ones(3, bool)), 0.0)
    np.testing.assert_allclose(gradient(jnp.array([0, 0, 1, 1]), weights[:2].reshape(-1)), 0.0)


@pytest.mark.parametrize("variate", CONTROL_VARIATES)
def test_without_a_right_chain_all_weights_are_zero(variate):
    np.testing.assert_array_equal(weights_of([0, 0], [0, 0], variate), 0.0)


def test_a_single_right_chain_has_no_share():
    np.testing.assert_array_equal(weights_of([0, 1, 0], [0, 0, 0])[:, 1], 0.0)


def test_chains_can_be_listed_in_any_order():
    rng = np.random.default_rng(0)
    memory, proposal = rng.random((2, 9)) < 0.6
    order = rng.permutation(9)
    found = weights_of(memory[order], proposal[order])
    np.testing.assert_allclose(found, weights_of(memory, proposal)[order], rtol=1e-6)


@pytest.mark.parametrize("variate", CONTROL_VARIATES)
def test_the_estimate_is_unbiased_where_all_states_are_right(variate):
    """Two chains in the posterior, each with a proposal: all 2 x 2 x 4 x 4 cases."""
    prior = np.asarray(jax.nn.softmax(LOGITS))
    posterior = np.where(RIGHT, prior, 0.0) / 0.4
    mean, square, squares = np.zeros(4), 0.0, 0.0
    for case in itertools.product([0, 1], [0, 1], range(4), range(4)):
        states, proposals = np.array(case[:2]), np.array(case[2:])
        chance = posterior[states].prod() * prior[proposals].prod()
        accepted, after = accepted_proposals(RIGHT[states], RIGHT[proposals])
        share = CONTROL_VARIATES[variate](after, RIGHT[proposals])
        weights = chain_weights(after, share)
        draws = np.stack([np.where(accepted, proposals, states), proposals], axis=1)
        found = np.asarray(gradient(jnp.array(draws.reshape(-1)), weights.reshape(-1)))
        mean, squares = mean + chance * found, squares + chance * (found**2).sum()
    expected = jax.grad(lambda x: jax.nn.logsumexp(jax.nn.log_softmax(x), where=RIGHT))(LOGITS)
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    assert squares - (mean**2).sum() > square


def test_fresh_samples_give_the_truncated_gradient():
    """(1 - (1 - p)^n) grad log p of one prompt, over all draws of n = 2."""
    prior, mean = np.asarray(jax.nn.softmax(LOGITS)), np.zeros(4)
    for draw in itertools.product(range(4), repeat=2):
        draws = jnp.array(draw)
        weights = right_share(RIGHT[draws][None])[0]
        mean = mean + prior[list(draw)].prod() * np.asarray(gradient(draws, weights))
    expected = jax.grad(lambda x: jax.nn.logsumexp(jax.nn.log_softmax(x), where=RIGHT))(LOGITS)
    np.testing.assert_allclose(mean, (1 - 0.6**2) * expected, atol=1e-6)


def test_fresh_samples_weigh_by_prompt_and_not_by_how_many_are_right():
    right = jnp.array([[True, True, False], [True, False, False], [False, False, False]])
    expected = [[1 / 4, 1 / 4, 0], [1 / 2, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(right_share(right), expected, rtol=1e-6)
    # One sample and no memory: the basic chain's weights.
    one = jnp.array([[True], [False], [True]])
    np.testing.assert_allclose(
        right_share(one)[:, 0], weights_of([0, 0, 0], [1, 0, 1], "none")[:, 0], rtol=1e-6
    )


def test_no_gradient_passes_through_weights():
    logprobs = jnp.log(jnp.array([[0.5, 0.25], [0.1, 0.9]]))
    mask = jnp.array([[True, True], [True, False]])
    weights = jnp.array([0.5, -0.25])
    loss, metrics = posterior_loss(logprobs, mask, weights)
    np.testing.assert_allclose(loss, -(0.5 * np.log(0.125) - 0.25 * np.log(0.1)), rtol=1e-6)
    np.testing.assert_allclose(metrics["sequence_logprob"].mean(), np.log(0.125), rtol=1e-6)
    found = jax.grad(lambda x: posterior_loss(x, mask, weights)[0])(logprobs)
    np.testing.assert_allclose(found, [[-0.5, -0.5], [0.25, 0.0]], rtol=1e-6)
