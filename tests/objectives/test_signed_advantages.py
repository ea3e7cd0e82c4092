"""Relative negative training, and the softmax bandit that explains it (arXiv:2510.04028)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES, keep_sign
from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES

LOGITS = jnp.array([0.3, -1.2, 0.8])
PI = np.asarray(jax.nn.softmax(LOGITS))
REWARDS = np.array([0.8, 1.0, 0.0], np.float32)


def step_of_logits(actions, advantages, surrogate="policy_gradient", ratio="none"):
    """Minus the gradient of the loss in the logits: each row is one action of the bandit."""
    actions = np.asarray(actions)
    mask = np.ones((len(actions), 1), bool)

    def total(logits):
        logprobs = jax.nn.log_softmax(logits)[actions][:, None]
        arrays = {"logprobs": logprobs, "mask": mask, "advantages": advantages}
        arrays["old_logprobs"] = jax.lax.stop_gradient(logprobs)
        loss, _ = policy_gradient_loss(arrays, ratio=RATIOS[ratio], surrogate=SURROGATES[surrogate])
        return (AGGREGATIONS["token_mean"](mask) * loss).sum()

    return -np.asarray(jax.grad(total)(LOGITS))


@pytest.mark.parametrize("advantage", [1.5, -0.5])
@pytest.mark.parametrize("action", range(3))
@pytest.mark.parametrize("surrogate, ratio", [("policy_gradient", "none"), ("clipped", "token")])
def test_a_sample_moves_the_other_logits_in_proportion_to_their_probability(
    advantage, action, surrogate, ratio
):
    got = step_of_logits([action], jnp.array([[advantage]]), surrogate, ratio)
    expected = advantage * (np.eye(3)[action] - PI)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_the_expected_step_of_a_rare_action_is_as_rare():
    steps = [step_of_logits([a], jnp.array([[REWARDS[a]]])) for a in range(3)]
    expected = PI * (REWARDS - PI @ REWARDS)
    np.testing.assert_allclose(PI @ np.array(steps), expected, rtol=1e-5, atol=1e-7)


ACTIONS = np.array([0, 0, 1, 2, 0, 2, 2, 2])
GROUPS = np.array([0, 0, 0, 0, 1, 1, 1, 1])


@functools.cache
def group_advantages():
    mask = np.ones((8, 1), bool)
    return ADVANTAGES["group_zscore"](REWARDS[ACTIONS][:, None], mask, GROUPS)


def test_signs_split_the_gradient_of_grpo():
    parts = {
        sign: step_of_logits(ACTIONS, keep_sign(group_advantages(), sign))
        for sign in ("both", "negative", "positive")
    }
    np.testing.assert_allclose(parts["negative"] + parts["positive"], parts["both"], rtol=1e-5)
    assert all(np.abs(step).max() > 1e-3 for step in parts.values())


def test_statistics_are_those_of_all_samples():
    kept = np.asarray(keep_sign(group_advantages(), "negative"))[:, 0]
    everything = np.asarray(group_advantages())[:, 0]
    np.testing.assert_array_equal(kept, np.where(everything < 0, everything, 0.0))
    # 0.8, 0.8, 1 and 0: a right action is never below the mean here, in group 1 the wrong ones are.
    np.testing.assert_array_equal(kept < 0, ACTIONS == 2)


def test_relative_to_the_group_a_wrong_group_teaches_nothing_and_a_right_sample_may():
    mask = np.ones((4, 1), bool)
    scores = np.array([0.0, 0.0, 0.6, 1.0], np.float32)[:, None]
    groups, correct = np.array([0, 0, 1, 1]), scores[:, 0] > 0.5
    relative = keep_sign(ADVANTAGES["group_zscore"](scores, mask, groups), "negative")
    assert (np.asarray(relative)[:, 0] < 0).tolist() == [False, False, True, False]
    absolute = ADVANTAGES["signed_outcome"](scores, mask, correct, positive_weight=0.0)
    assert (np.asarray(absolute)[:, 0] < 0).tolist() == [True, True, False, False]


def test_an_unknown_sign_is_named():
    with pytest.raises(ValueError, match="advantage_sign is 'minus'"):
        keep_sign(jnp.ones((1, 1)), "minus")


def test_the_filter_is_the_limit_of_exponential_weights():
    """Weights exp(A / temperature), clipped at 1 (AWR); a sample at the mean has none."""
    rewards = jnp.array([[0.0], [1.0], [2.0], [5.0], [3.0], [3.0]])
    mask, groups = jnp.ones((6, 1), bool), jnp.array([7, 7, 7, 7, 2, 2])
    found = ADVANTAGES["better_than_group"](rewards, mask, groups)[:, 0]
    advantages = ADVANTAGES["group_mean"](rewards, mask, groups)[:, 0]
    weights = jnp.minimum(jnp.exp(advantages / 1e-3), 1.0)
    np.testing.assert_array_equal(found, jnp.where(advantages == 0, 0.0, weights))
    assert found.tolist() == [0, 0, 0, 1, 0, 0]
