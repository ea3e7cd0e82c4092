"""Scores to token rewards: clip, missing end, place, KL, scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.outcomes import bounded_scores, place_outcomes, whiten_rewards
from rljax.objectives.kl import k1
from rljax.objectives.policy_gradient import kl_in_reward

MASK = jnp.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]], bool)


def test_clip_and_missing_end():
    scores, finished = jnp.array([4.0, -0.5, 4.0]), jnp.array([True, True, False])
    np.testing.assert_array_equal(bounded_scores(scores, finished), scores)
    np.testing.assert_array_equal(
        bounded_scores(scores, finished, reward_clip=2.5), [2.5, -0.5, 2.5]
    )
    # The fixed score of a missing end is not clipped.
    both = bounded_scores(scores, finished, reward_clip=0.25, missing_end_score=-1.0)
    np.testing.assert_array_equal(both, [0.25, -0.25, -1.0])
    with pytest.raises(ValueError, match="reward_clip is 0"):
        bounded_scores(scores, finished, reward_clip=0.0)


def test_outcomes_are_on_the_last_true_slot_and_nowhere_in_an_empty_row():
    got = place_outcomes(jnp.array([0.7, -1.0, 5.0]), MASK)
    np.testing.assert_allclose(got, [[0, 0, 0.7, 0], [0, 0, -1, 0], [0] * 4], rtol=1e-6)
    assert place_outcomes(jnp.array([1, 2, 3]), MASK).dtype == jnp.float32


def test_the_clip_comes_before_the_kl_and_a_weight_of_zero_needs_no_reference():
    scores = bounded_scores(jnp.array([9.0, 0.0, 0.0]), jnp.ones(3, bool), reward_clip=1.0)
    rewards = place_outcomes(scores, MASK)
    logprobs = jnp.full((3, 4), -1.0)
    kl = kl_in_reward(rewards, logprobs, logprobs + 2.0, MASK, kl_weight=0.5, kl=k1)
    np.testing.assert_allclose(kl[0], [1.0, 1.0, 2.0, 0.0])
    for ref in (logprobs, logprobs - 7.0):
        without = kl_in_reward(rewards, logprobs, ref, MASK, kl_weight=0.0, kl=k1)
        np.testing.assert_array_equal(without, rewards)


def test_reward_whitening_keeps_the_mean():
    rewards = jnp.array([[1.0, 3.0, 8.0, jnp.nan], [2.0, 50.0, 6.0, 7.0], [jnp.inf] * 4])
    got = np.asarray(whiten_rewards(rewards, MASK))
    np.testing.assert_allclose(got[MASK].mean(), 4.0, rtol=1e-6)
    np.testing.assert_allclose(got[MASK].std(ddof=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(got[~np.asarray(MASK)], 0.0)
    with pytest.raises(ValueError, match="reward_epsilon is -1"):
        whiten_rewards(rewards, MASK, reward_epsilon=-1)
