"""GAE over macro actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.gae import gae, generalized_advantages
from rljax.objectives.credit.macro_actions import ngrams
from rljax.objectives.credit.macro_gae import macro_actions, macro_gae, macro_returns

RNG = np.random.default_rng(1)
VALUES, REWARDS = (jnp.asarray(RNG.normal(size=(3, 7)), jnp.float32) for _ in range(2))
MASK = jnp.array([[1] * 7, [0, 1, 1, 0, 1, 1, 0], [0] * 7], bool)
IDS = ngrams(MASK, ngram=3)
FINISHED = jnp.ones(3, bool)


@pytest.mark.parametrize(
    "weights, first, second",  # sigma of a macro action of three tokens
    [
        ("equal", [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5]),
        ("unit", [0, 0, 1], [0, 1]),
        ("position", [6 / 11, 3 / 11, 2 / 11], [2 / 3, 1 / 3]),
    ],
)
def test_values_and_rewards_are_weighted_means_but_for_the_outcome(weights, first, second):
    steps = macro_actions(REWARDS, VALUES, MASK, IDS, macro_weights=weights)
    for found, x in ((steps.values, VALUES), (steps.rewards, REWARDS)):
        expected = [np.dot(first, x[0, :3]), np.dot(first, x[0, 3:6]), x[0, 6], 0, 0, 0, 0]
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[2], 0.0)
    np.testing.assert_array_equal(steps.mask.sum(axis=1), [3, 2, 0])
    # Two segments of two tokens; the last token's reward comes whole, its value does not.
    pairs = jnp.where(MASK, jnp.array([0, 0, 0, 0, 1, 1, 0]), 99)
    steps = macro_actions(REWARDS, VALUES, MASK, pairs, macro_weights=weights)
    whole = np.dot(second, [REWARDS[1, 4], 0.0]) + REWARDS[1, 5]
    np.testing.assert_allclose(steps.rewards[1, 1], whole, rtol=1e-5)
    np.testing.assert_allclose(steps.values[1, 1], np.dot(second, VALUES[1, 4:6]), rtol=1e-5)


def test_hand_values():
    # V = (1, 2), R = (0, 6), gamma 1, lambda 1/2: A_1 = 6 - 2 = 4, A_0 = 0 + 2 - 1 + 4 / 2 = 3.
    ids, mask = jnp.array([[0, 0, 1]]), jnp.ones((1, 3), bool)
    values, rewards = jnp.array([[0.0, 2.0, 2.0]]), jnp.array([[1.0, -1.0, 6.0]])
    got = macro_gae(rewards, values, mask, ids, gae_lambda=0.5)
    np.testing.assert_allclose(got, [[3.0, 3.0, 4.0]])
    returns, learnt = macro_returns(rewards, values, mask, ids, value_lambda=0.5)
    np.testing.assert_allclose(returns, [[4.0, 4.0, 6.0]])
    assert bool(learnt.all())


def test_unigrams_are_token_ppo_without_whitening():
    unigrams = ngrams(MASK, ngram=1)
    got = macro_gae(REWARDS, VALUES, MASK, unigrams, gamma=0.9, gae_lambda=0.8)
    tokens = dict(gamma=0.9, gae_lambda=0.8, whiten_advantages=False)
    np.testing.assert_allclose(
        got, gae(REWARDS, VALUES, MASK, FINISHED, **tokens), rtol=1e-5, atol=1e-6
    )


def test_the_whole_row_as_one_macro_action_is_a_bandit():
    """One advantage: the mean of the other rewards plus the outcome, less the mean value."""
    ids = ngrams(MASK, ngram=7, last_alone=False)
    got = macro_gae(REWARDS, VALUES, MASK, ids)
    expected = REWARDS[0, :6].sum() / 7 + REWARDS[0, 6] - VALUES[0].mean()
    np.testing.assert_allclose(got[0], expected, rtol=1e-5)
    # The authors' rule keeps the last token apart.
    apart = macro_gae(REWARDS, VALUES, MASK, ngrams(MASK, ngram=7))[0]
    np.testing.assert_allclose(apart[:6], apart[0], rtol=1e-6)
    np.testing.assert_allclose(apart[6], REWARDS[0, 6] - VALUES[0, 6], rtol=1e-5)


@pytest.mark.parametrize("weights", ["equal", "unit", "position"])
def test_a_constant_critic_has_that_value_in_every_macro_action(weights):
    steps = macro_actions(REWARDS, jnp.full((3, 7), 2.5), MASK, IDS, macro_weights=weights)
    np.testing.assert_allclose(steps.values, np.where(steps.mask, 2.5, 0.0), rtol=1e-6)


def test_order_inside_a_macro_action_does_not_matter_with_equal_weights():
    order = jnp.array([2, 0, 1, 4, 3, 5, 6])
    expected = macro_gae(REWARDS[:1], VALUES[:1], MASK[:1], IDS[:1])
    swapped = macro_gae(REWARDS[:1, order], VALUES[:1, order], MASK[:1], IDS[:1])
    np.testing.assert_allclose(swapped, expected, rtol=1e-5, atol=1e-6)


def test_the_outcome_survives_padding_and_padding_changes_nothing():
    outcome = jnp.zeros((1, 7)).at[0, 6].set(2.5)
    mask = jnp.ones((1, 7), bool)
    expected = macro_gae(outcome, VALUES[:1], mask, ngrams(mask, ngram=3))

    def pad(x, fill):
        return jnp.pad(x, ((0, 0), (2, 4)), constant_values=fill)

    padded = pad(mask, False)
    got = macro_gae(
        pad(outcome, jnp.nan), pad(VALUES[:1], jnp.inf), padded, ngrams(padded, ngram=3)
    )
    np.testing.assert_allclose(got[:, 2:-4], expected, rtol=1e-6)
    np.testing.assert_array_equal(got[~padded], 0.0)
    # lambda 1 and V 0: every token gets the whole score.
    ones = macro_gae(outcome, 0 * VALUES[:1], mask, ngrams(mask, ngram=3), gae_lambda=1.0)
    np.testing.assert_allclose(ones, 2.5)


def test_returns_are_the_scan_over_macro_actions_for_every_token():
    steps = macro_actions(REWARDS, VALUES, MASK, IDS)
    targets = steps.values + generalized_advantages(*steps, gamma=0.9, gae_lambda=0.7)
    returns, learnt = macro_returns(REWARDS, VALUES, MASK, IDS, gamma=0.9, value_lambda=0.7)
    expected = np.where(MASK, np.take_along_axis(np.asarray(targets), np.asarray(IDS), 1), 0.0)
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
    np.testing.assert_array_equal(learnt, MASK)


def test_boundaries_are_data():
    """Another segmentation is no new program; no gradient; whitening is over tokens."""
    traces = []

    @jax.jit
    def advantages(ids):
        traces.append(0)
        return macro_gae(REWARDS, VALUES, MASK, ids, whiten_advantages=True)

    for ngram in (1, 3):
        got = np.asarray(advantages(ngrams(MASK, ngram=ngram)))[np.asarray(MASK)]
        np.testing.assert_allclose([got.mean(), got.std(ddof=1)], [0.0, 1.0], atol=1e-5)
    assert len(traces) == 1
    gradient = jax.grad(lambda v: macro_gae(REWARDS, v, MASK, IDS).sum())(VALUES)
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("field", [dict(macro_weights="last"), dict(gamma=2.0)])
def test_impossible_fields_are_errors(field):
    ((name, value),) = field.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        macro_gae(REWARDS, VALUES, MASK, IDS, **field)
