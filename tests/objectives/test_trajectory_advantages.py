"""Advantages and targets of a critic of denoising steps, by the numbers of TraceRL's equations."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages.trajectory import trajectory_gae, trajectory_returns
from rljax.objectives.credit.trajectory import trajectory

# One block of four tokens, filled in the steps 0, 2, 1, 2; and a sample that was wrong.
STEPS = jnp.array([[0, 2, 1, 2], [0, 1, 2, 3]])
MASK = jnp.ones((2, 4), bool)
VALUES = jnp.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 0.0]])
# A group of two: z-scores of 1 and -1 where the rewards' deviation is 1.
REWARDS = jnp.zeros((2, 4)).at[:, -1].set(jnp.array([2**0.5, 0.0]))
GROUPS = jnp.zeros(2, jnp.int32)
# z-scores by the unbiased deviation: +-1 / sqrt(2).
SHARE = 2**-0.5


def both(gamma, lam, values=VALUES, steps=STEPS, mask=MASK):
    runs = trajectory(mask, steps)
    fields = dict(gamma=gamma, advantage_epsilon=0.0)
    advantages = trajectory_gae(REWARDS, mask, GROUPS, values, runs, gae_lambda=lam, **fields)
    targets, learned = trajectory_returns(REWARDS, mask, GROUPS, runs, **fields)
    assert (learned == mask).all()
    return np.asarray(advantages), np.asarray(targets)


def test_runs_of_steps():
    steps = jnp.array([[0, 3, 1, 2, 4], [0, 2, 1, 2, 9]])
    mask = jnp.array([[True] * 5, [True] * 4 + [False]])
    found = np.asarray(trajectory(mask, steps, trajectory_shrink=2))
    assert found[0].tolist() == [0, 1, 0, 1, 2] and found[1, :4].tolist() == [0, 1, 0, 1]
    assert np.asarray(trajectory(mask, steps))[1, :4].tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize(
    "gamma, lam, advantages, targets",
    [
        (0.9, 0.8, (0.51128, 0.8, 0.474, 0.6), (0.81, 1.0, 0.9, 1.0)),
        (1.0, 1.0, (0.9, 0.8, 0.7, 0.6), (1.0, 1.0, 1.0, 1.0)),
        (1.0, 0.0, (0.2, 0.8, 0.0, 0.6), (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_the_numbers_of_the_equations(gamma, lam, advantages, targets):
    """For a reward of 1: values are scaled by the z-score, as advantages then are."""
    found, learned = both(gamma, lam, values=VALUES * SHARE)
    np.testing.assert_allclose(found[0], np.array(advantages) * SHARE, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(learned[0], np.array(targets) * SHARE, rtol=1e-6)
    # The wrong sample has a step for each token and no value: minus the same, discounted.
    behind = (gamma * lam) ** np.arange(3, -1, -1) if lam else np.array([0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(found[1], -SHARE * behind, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(learned[1], -SHARE * gamma ** np.arange(3, -1, -1), rtol=1e-5)


def test_without_values_a_token_has_what_is_to_come():
    found, targets = both(0.9, 1.0, values=jnp.zeros((2, 4)))
    np.testing.assert_allclose(found, targets, rtol=1e-6)


def test_tokens_that_were_cut_off_count_for_nothing():
    mask = MASK.at[:, 3].set(False)
    rewards = jnp.where(mask, REWARDS, 0.0).at[:, 2].set(REWARDS[:, 3])
    runs = trajectory(mask, STEPS)
    values = VALUES.at[:, 3].set(jnp.nan)
    found = np.asarray(trajectory_gae(rewards, mask, GROUPS, values, runs, advantage_epsilon=0.0))
    np.testing.assert_allclose(found[0], [SHARE - 0.1, SHARE - 0.2, SHARE - 0.3, 0], rtol=1e-5)


def test_a_group_that_agrees_has_no_reward():
    even = jnp.zeros((2, 4)).at[:, -1].set(1.0)
    runs = trajectory(MASK, STEPS)
    nothing = jnp.zeros((2, 4))
    assert not np.asarray(trajectory_gae(even, MASK, GROUPS, nothing, runs)).any()
    assert not np.asarray(trajectory_returns(even, MASK, GROUPS, runs)[0]).any()
