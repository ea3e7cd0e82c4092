"""Monte-Carlo values and segment advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.cuts import uncertain, uncertain_cuts
from rljax.objectives.credit.outcomes import place_outcomes
from rljax.objectives.credit.segment_values import (
    monte_carlo_values,
    probability_mask,
    segment_difference,
    segment_values,
)
from rljax.objectives.whitening import whiten

NAN = float("nan")
MASK = jnp.array([[1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0] * 6], bool)
IDS = jnp.array([[0, 0, 5, 1, 1, 2], [0, 1, 2, 7, 7, 7], [0] * 6])
RAW = dict(whiten_advantages=False)
UNSURE = jnp.full((3, 6), -1.0)


def test_monte_carlo_values():
    scores = jnp.array([[1.0, 0.0, 1.0], [1.0, NAN, NAN], [1.0, 1.0, 1.0]])
    finished = jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    there = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
    values, cut_off = monte_carlo_values(scores, finished, there)
    np.testing.assert_allclose(values, [1 / 3, 1.0, NAN], rtol=1e-6)
    np.testing.assert_allclose(cut_off.mean(), 1 / 4)
    own, _ = monte_carlo_values(scores, finished, there, unfinished_score=None)
    np.testing.assert_allclose(own[0], 2 / 3, rtol=1e-6)


def test_the_error_of_a_value_falls_with_the_root_of_the_rollouts():
    key = jax.random.key(0)
    spread = []
    for k in (4, 64):
        scores = jax.random.bernoulli(key, 0.5, (4000, k)).astype(float)
        ones = jnp.ones(scores.shape, bool)
        spread.append(float(monte_carlo_values(scores, ones, ones)[0].std()))
    np.testing.assert_allclose(spread, [0.25, 0.0625], rtol=0.05)


def test_ends_of_segments():
    states = jnp.array([[0.2, 9, 9, NAN, 9, 0.5], [NAN, 0.25, 0.75, 9, 9, 9], [9.0] * 6])
    rewards = place_outcomes(jnp.array([1.0, 0.0, 3.0]), MASK).at[0, 1].set(0.125)
    rewards = jnp.where(MASK, rewards, jnp.inf)
    start, end = segment_values(states, rewards, MASK, IDS)
    np.testing.assert_allclose(start[0], [0.2, 0.2, 0, NAN, NAN, 0.5], rtol=1e-6)
    np.testing.assert_allclose(end[0], [NAN, NAN, 0, 0.5, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(start[1], [NAN, 0.25, 0.75, 0, 0, 0])
    np.testing.assert_allclose(end[1], [0.25, 0.75, 0, 0, 0, 0])
    np.testing.assert_array_equal([start[2], end[2]], 0.0)
    filled, ends = segment_values(states, rewards, MASK, IDS, fill_values=True)
    np.testing.assert_allclose(filled[0], [0.2, 0.2, 0, 0.5, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(ends[0], [0.625, 0.625, 0, 0.5, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(filled[1], [0.25, 0.25, 0.75, 0, 0, 0])


def test_vineppo_beyond_its_cap_the_reward_to_go_stands_in():
    """Only the first state has a value: the first step gets R - V, the others nothing."""
    states = jnp.array([[0.3, NAN, NAN, NAN, NAN, NAN]])
    mask, ids = jnp.ones((1, 6), bool), jnp.arange(6)[None]
    rewards = place_outcomes(jnp.array([1.0]), mask)
    start, end = segment_values(states, rewards, mask, ids, fill_values=True)
    got = segment_difference(start, end, mask, UNSURE[:1], **RAW)
    np.testing.assert_allclose(got, [[0.7, 0, 0, 0, 0, 0]], rtol=1e-6)


def chain(score, probabilities, values, interval):
    """SPO-chain of one row from the values of all states."""
    old = jnp.log(jnp.asarray(probabilities))[None]
    mask = jnp.ones(old.shape, bool)
    cuts = uncertain_cuts(mask, old, cut_interval=interval)
    states = jnp.where(cuts, jnp.asarray(values), NAN)
    ids = uncertain(mask, old, cut_interval=interval)
    start, end = segment_values(states, place_outcomes(jnp.array([score]), mask), mask, ids)
    return segment_difference(start, end, mask, old, **RAW)[0], ids[0], cuts[0]


def test_chain_segments_add_up_to_the_score_less_the_first_value():
    values = jnp.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    advantages, ids, cuts = chain(1.0, [0.95, 0.5, 0.3, 0.99, 0.2, 0.1], values, 1)
    # Exact values make exact differences; nothing before the first cut, nothing on sure tokens.
    np.testing.assert_allclose(advantages, [0, 0.1, 0.2, 0, 0.1, 0.4], rtol=1e-5)
    first_of_segment = np.unique(np.asarray(ids), return_index=True)[1]
    total = sum(float(advantages[i]) for i in first_of_segment)
    np.testing.assert_allclose(total, 1.0 - values[int(np.argmax(cuts))], rtol=1e-5)


def test_one_cut_at_the_prompt_is_an_independent_baseline():
    advantages, _, cuts = chain(1.0, [0.3, 0.95, 0.6, 0.95, 0.7, 0.8], jnp.full(6, 0.25), 50)
    np.testing.assert_array_equal(np.flatnonzero(cuts), [0])
    np.testing.assert_allclose(advantages, [0.75, 0, 0.75, 0, 0.75, 0.75])


def test_no_cut_no_advantage_and_equal_rollouts_no_advantage():
    np.testing.assert_array_equal(chain(1.0, [0.95] * 6, jnp.zeros(6), 1)[0], 0.0)
    np.testing.assert_array_equal(chain(1.0, [0.5] * 6, jnp.ones(6), 1)[0], 0.0)


def test_whitening_is_over_the_tokens_that_are_trained_on():
    difference = jnp.arange(18.0).reshape(3, 6)
    old = jnp.where(difference % 2 == 0, -1.0, -0.01)
    got = segment_difference(0 * difference, difference, MASK, old)
    kept = np.asarray(MASK & (difference % 2 == 0))
    used = np.asarray(got)[kept]
    np.testing.assert_allclose([used.mean(), used.std(ddof=1)], [0.0, 1.0], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got)[~kept], 0.0)
    everything = segment_difference(
        0 * difference, difference, MASK, old, probability_threshold=None
    )
    np.testing.assert_allclose(everything, whiten(difference, MASK), rtol=1e-6)


def test_probability_mask_and_its_limits():
    old = jnp.log(jnp.array([[0.5, 0.9, 0.1, 0.95, 0.2, 0.99]] * 3)).at[0, 2].set(NAN)
    kept = probability_mask(MASK, old, probability_threshold=0.8)
    np.testing.assert_array_equal(kept[0], np.array([1, 0, 0, 0, 1, 0], bool))
    # 1.0 leaves the mask, hence the loss, as it is; so does a batch of sure tokens.
    np.testing.assert_array_equal(probability_mask(MASK, old, probability_threshold=1.0), MASK)
    np.testing.assert_array_equal(probability_mask(MASK, old * 0 - 0.01), MASK)
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"probability_threshold is {bad}"):
            probability_mask(MASK, old, probability_threshold=bad)


def test_advantages_are_constants():
    gradient = jax.grad(lambda v: segment_difference(v, 2 * v, MASK, UNSURE).sum())(UNSURE)
    np.testing.assert_array_equal(gradient, 0.0)
