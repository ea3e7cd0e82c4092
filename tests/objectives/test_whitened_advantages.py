"""Rewards-to-go, whitened advantages, and baselines of tokens."""

import functools

import jax
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.advantages.rewards_to_go import rewards_to_go
from rljax.objectives.parts import inputs_of

GROUPS = np.array([0, 0, 0, 0, 5, 5])
LENGTHS = np.array([1, 4, 2, 3, 2, 4])
MASK = np.arange(4) < LENGTHS[:, None]
SCORES = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 1.0], np.float32)
RNG = np.random.default_rng(1)
LOGPROBS = np.log(RNG.uniform(0.1, 0.9, MASK.shape))
ARRAYS = {
    "token_rewards": np.where(np.arange(4) == LENGTHS[:, None] - 1, SCORES[:, None], 0.0),
    "mask": MASK,
    "group_ids": GROUPS,
    "scores": SCORES,
    "greedy_scores": np.array([0.25] * 4 + [0.75] * 2, np.float32),
    "demonstration": np.zeros(6, bool),
    "old_logprobs": LOGPROBS,
    "old_collision": np.exp(LOGPROBS) ** 2 + RNG.uniform(0, 0.1, MASK.shape),
}


@functools.cache
def compiled(name, fields):
    return jax.jit(functools.partial(ADVANTAGES[name], **dict(fields)))


def advantages(name, changes=None, **fields):
    arrays = ARRAYS | (changes or {})
    part = compiled(name, tuple(fields.items()))
    return np.asarray(part(*(arrays[key] for key in inputs_of(ADVANTAGES[name]))))


def test_rewards_to_go_skip_holes_and_are_discounted_per_token():
    rewards = np.array([[1.0, 9.0, 2.0, 4.0, np.nan]])
    mask = np.array([[True, False, True, True, False]])
    got = rewards_to_go(rewards, mask, gamma=0.5)
    np.testing.assert_allclose(got, [[1 + 0.5 * 4, 0, 2 + 0.5 * 4, 4, 0]])
    np.testing.assert_allclose(rewards_to_go(rewards, mask, gamma=0.0), [[1, 0, 2, 4, 0]])


def test_reinforce_plus_plus_whitens_discounted_returns():
    got = advantages("reinforce_plus_plus", gamma=0.9)
    returns = SCORES[:, None] * 0.9 ** (LENGTHS[:, None] - 1 - np.arange(4))
    kept = returns[MASK]
    np.testing.assert_allclose(got[MASK], (kept - kept.mean()) / kept.std(ddof=1), rtol=1e-5)


def test_remax_subtracts_the_greedy_score_from_every_token():
    rewards = np.where(MASK, 0.5, 7.0)
    got = advantages("remax", {"token_rewards": rewards})
    left = 0.5 * (LENGTHS[:, None] - np.arange(4))
    expected = np.where(MASK, left - ARRAYS["greedy_scores"][:, None], 0.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_tokens_are_whitened_to_mean_0_and_variance_1():
    kept = advantages("reinforce_plus_plus_baseline")[MASK]
    np.testing.assert_allclose([kept.mean(), kept.var(ddof=1)], [0.0, 1.0], atol=1e-6)
    # The shift of the long wrong row's tokens moves a group without signal off 0.
    agreed = advantages("reinforce_plus_plus_baseline")[4:][MASK[4:]]
    centred = np.repeat(SCORES - np.repeat([0.5, 1.0], [4, 2]), LENGTHS)
    np.testing.assert_allclose(agreed, -centred.mean() / centred.std(ddof=1), rtol=1e-5)
    assert 0.05 < abs(agreed[0]) < 0.5


def test_samples_are_whitened_to_mean_0_and_variance_1_and_leave_agreed_groups_alone():
    got = advantages("reinforce_plus_plus_baseline", whiten_over="samples")
    np.testing.assert_allclose([got[:, 0].mean(), got[:, 0].var(ddof=1)], [0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(got[4:], 0.0, atol=1e-7)
    np.testing.assert_array_equal(got, np.where(MASK, got[:, :1], 0.0))


def test_the_boost_is_for_right_rows_and_inside_the_mask():
    plain = advantages("reinforce_plus_plus_baseline")
    boosted = advantages("reinforce_plus_plus_baseline", correct_boost=0.1)
    expected = plain + 0.1 * (MASK & (SCORES == 1.0)[:, None])
    np.testing.assert_allclose(boosted, expected, rtol=1e-6)


def test_token_statistics_of_equal_lengths_are_those_of_rows():
    mask = np.arange(4) < 3 * np.ones((6, 1))
    rewards = np.where(np.arange(4) == 0, SCORES[:, None], 0.0)
    got = advantages("group_token_zscore", {"mask": mask, "token_rewards": rewards})
    unbiased = advantages("group_zscore", {"mask": mask, "token_rewards": rewards})
    np.testing.assert_allclose(got, unbiased * np.sqrt(4 / 3), rtol=1e-5)


def test_long_rows_weigh_more_in_token_statistics():
    values = np.repeat(SCORES[:4], LENGTHS[:4])
    expected = (SCORES[:4] - values.mean()) / (values.std() + 1e-6)
    np.testing.assert_allclose(advantages("group_token_zscore")[:4, 0], expected, rtol=1e-5)


def test_a_group_with_a_huge_token_advantage_takes_row_statistics():
    expected = advantages("group_zscore")
    largest = np.abs(advantages("group_token_zscore")).max()
    under = advantages("group_token_zscore", fallback_size=float(largest) - 1e-3)
    np.testing.assert_allclose(under, expected, rtol=1e-6)
    over = advantages("group_token_zscore", fallback_size=float(largest) + 1e-3)
    assert np.abs(over - expected).max() > 0.1


def optimal_baseline_by_loops(zero_tail):
    expected = np.zeros(MASK.shape)
    squared = 1 - 2 * np.exp(LOGPROBS) + ARRAYS["old_collision"]
    energy = np.cumsum(np.where(MASK, squared, 0.0), axis=1)
    for n, t in np.argwhere(MASK):
        others = [m for m in range(6) if GROUPS[m] == GROUPS[n] and MASK[m, t]]
        alone = len(others) == 1 and zero_tail
        weights, returns = energy[others, t], SCORES[others]
        expected[n, t] = SCORES[n] - (0 if alone else (weights * returns).sum() / weights.sum())
    return expected


@pytest.mark.parametrize("zero_tail", [True, False])
def test_the_optimal_baseline_weighs_returns_by_the_gradients_so_far(zero_tail):
    got = advantages("optimal_token_baseline", zero_tail=zero_tail)
    expected = optimal_baseline_by_loops(zero_tail)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    # Row 1 alone reaches the last slot of its group, row 5 that of its own.
    assert abs(got[5, 3] - zero_tail) < 1e-6


def test_certain_tokens_carry_no_gradient_and_no_baseline():
    certain = {"old_logprobs": np.zeros(MASK.shape), "old_collision": np.ones(MASK.shape)}
    got = advantages("optimal_token_baseline", certain)
    np.testing.assert_allclose(got, np.where(MASK, SCORES[:, None], 0.0))


@pytest.mark.parametrize("divide, reference", [(False, "group_mean"), (True, "group_zscore")])
def test_demonstrations_are_compared_but_not_counted(divide, reference):
    plain = advantages("group_mean_sampled", divide_by_deviation=divide)
    np.testing.assert_allclose(plain, advantages(reference), rtol=1e-5, atol=1e-7)
    demonstration = np.array([False, False, False, True, False, True])
    got = advantages(
        "group_mean_sampled", {"demonstration": demonstration}, divide_by_deviation=divide
    )
    deviation = np.std([1, 0, 0], ddof=1) if divide else 1.0
    np.testing.assert_allclose(got[:4, 0], (np.array([1, 0, 0, 1]) - 1 / 3) / deviation, rtol=1e-5)
    # One sample is nothing to compare with.
    np.testing.assert_allclose(got[4:, 0], 1.0, rtol=1e-5)


def test_a_demonstration_among_samples_that_agree_is_divided_by_one():
    demonstration = np.array([True, False, False, False, False, False])
    scores = np.array([1.0, 0.1, 0.1, 0.1, 1.0, 0.0], np.float32)
    rewards = np.where(np.arange(4) == 0, scores[:, None], np.float32(0))
    changes = {"demonstration": demonstration, "token_rewards": rewards}
    got = advantages("group_mean_sampled", changes, divide_by_deviation=True)
    np.testing.assert_allclose(got[:4, 0], [0.9, 0, 0, 0], rtol=1e-5)
    np.testing.assert_array_equal(got[1:4], 0.0)
