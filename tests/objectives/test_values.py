"""Targets of a value function and its losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.values import (
    critic_loss,
    explained_variance,
    lambda_returns,
    td_lambda_returns,
    value_loss,
)

VALUES = jnp.array([[1.0, 2.0, 4.0, 9.0], [3.0, -1.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0]])
REWARDS = jnp.array([[0.0, 0.5, 1.0, 7.0], [0.0, 2.0, 7.0, 7.0], [7.0, 7.0, 7.0, 7.0]])
MASK = jnp.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)


def test_hand_values():
    # Row 0, gamma 0.5, lambda 0.5: A_2 = 1 - 4 = -3, A_1 = 0.5 + 2 - 2 + A_2 / 4 = -0.25,
    # A_0 = 0 + 1 - 1 + A_1 / 4 = -0.0625. Row 1: A_1 = 3, A_0 = -0.5 - 3 + 3 / 4 = -2.75.
    returns = td_lambda_returns(VALUES, REWARDS, MASK, gamma=0.5, lam=0.5)
    np.testing.assert_allclose(
        returns, [[0.9375, 1.75, 1.0, 0.0], [0.25, 2.0, 0.0, 0.0], [0.0] * 4], rtol=1e-6
    )


def test_lambda_one_is_the_discounted_reward_to_go_and_lambda_zero_one_step():
    returns = td_lambda_returns(VALUES, REWARDS, MASK, gamma=0.5, lam=1.0)
    np.testing.assert_allclose(returns[0], [0.5, 1.0, 1.0, 0.0], rtol=1e-6)
    returns = td_lambda_returns(VALUES, REWARDS, MASK, lam=0.0)
    np.testing.assert_allclose(returns[0], [0.0 + 2.0, 0.5 + 4.0, 1.0, 0.0], rtol=1e-6)


def test_against_the_weighted_mixture_of_n_step_returns():
    """The definition of the lambda-return, in float64."""
    rng = np.random.default_rng(0)
    values, rewards, gamma, lam = rng.normal(size=6), rng.normal(size=6), 0.9, 0.7
    after = np.append(values, 0.0)

    def n_step(t, n):
        discounted = sum(gamma**i * rewards[t + i] for i in range(n))
        return discounted + gamma**n * after[t + n]

    expected = []
    for t in range(6):
        left = 6 - t
        short = sum((1 - lam) * lam ** (n - 1) * n_step(t, n) for n in range(1, left))
        expected.append(short + lam ** (left - 1) * n_step(t, left))

    def one_row(x):
        return jnp.asarray(x, jnp.float32)[None]

    returns = td_lambda_returns(
        one_row(values), one_row(rewards), jnp.ones((1, 6), bool), gamma=gamma, lam=lam
    )
    np.testing.assert_allclose(returns[0], expected, rtol=1e-5, atol=1e-6)


def test_masked_slots_are_skipped_wherever_they_are_and_may_hold_nan():
    """A hole in the middle and padding on the left give what the compact row gives."""
    slots = np.array([1, 2, 5])

    def spread(x):
        return jnp.full((1, 7), jnp.nan).at[0, slots].set(x[0, :3])

    mask = jnp.zeros((1, 7), bool).at[0, slots].set(True)
    returns = td_lambda_returns(spread(VALUES), spread(REWARDS), mask, gamma=0.9, lam=0.8)
    compact = td_lambda_returns(VALUES, REWARDS, MASK, gamma=0.9, lam=0.8)
    np.testing.assert_allclose(returns[0, slots], compact[0, :3], rtol=1e-6)
    np.testing.assert_array_equal(returns[~mask], 0.0)


def test_exact_values_are_a_fixed_point():
    """Rewards at the end only and values equal to them: nothing to correct, for every lambda."""
    rewards = jnp.array([[0.0, 0.0, 5.0, 0.0]])
    values = jnp.array([[5.0, 5.0, 5.0, 2.0]])
    for lam in (0.0, 0.4, 1.0):
        returns = td_lambda_returns(values, rewards, MASK[:1], lam=lam)
        np.testing.assert_allclose(returns, [[5.0, 5.0, 5.0, 0.0]], rtol=1e-6)


def test_returns_are_constants():
    def total(v, r):
        return td_lambda_returns(v, r, MASK).sum()

    for gradient in jax.grad(total, (0, 1))(VALUES, REWARDS):
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("settings", [dict(gamma=1.1), dict(lam=-0.1), dict(lam=float("nan"))])
def test_impossible_settings_are_errors(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        td_lambda_returns(VALUES, REWARDS, MASK, **settings)


def test_loss_gradient_and_metrics():
    values = VALUES.at[0, 3].set(jnp.nan)
    returns = jnp.array([[2.0, 2.0, 1.0, jnp.nan], [0.0, 0.0, jnp.nan, 0.0], [jnp.nan] * 4])
    loss, metrics = value_loss(values, returns, MASK)
    np.testing.assert_allclose(loss, [[0.5, 0.0, 4.5, 0.0], [4.5, 0.5, 0.0, 0.0], [0.0] * 4])
    gradients = jax.grad(lambda v, r: value_loss(v, r, MASK)[0].sum(), (0, 1))(values, returns)
    expected = [[-1.0, 0.0, 3.0, 0.0], [3.0, -1.0, 0.0, 0.0], [0.0] * 4]
    np.testing.assert_allclose(gradients[0], expected)
    np.testing.assert_array_equal(gradients[1], 0.0)
    means = {name: float(metric.mean()) for name, metric in metrics.items()}
    assert means == pytest.approx({"value": 9 / 5, "return": 5 / 5, "value_error": 20 / 5})


def test_a_batch_without_tokens_costs_nothing():
    loss, metrics = value_loss(VALUES, REWARDS, jnp.zeros_like(MASK))
    np.testing.assert_array_equal(loss, 0.0)
    assert float(metrics["value_error"].mean()) == 0.0


FINISHED = jnp.array([True, False, True])


def test_targets_have_a_lambda_of_their_own():
    """VC-PPO: with lambda 1 the critic's own values do not enter the targets."""
    targets, learnt = lambda_returns(REWARDS, VALUES, MASK, FINISHED)
    np.testing.assert_allclose(targets, [[1.5, 1.5, 1.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0] * 4])
    np.testing.assert_array_equal(learnt, MASK)
    other, _ = lambda_returns(REWARDS, VALUES + 9.0, MASK, FINISHED)
    np.testing.assert_array_equal(targets, other)
    mixed, _ = lambda_returns(REWARDS, VALUES, MASK, FINISHED, gamma=0.5, value_lambda=0.5)
    np.testing.assert_allclose(mixed, td_lambda_returns(VALUES, REWARDS, MASK, gamma=0.5, lam=0.5))


@pytest.mark.parametrize("truncation", ["hold", "drop"])
def test_the_critic_learns_from_rows_that_ended_only(truncation):
    targets, learnt = lambda_returns(REWARDS, VALUES, MASK, FINISHED, truncation=truncation)
    np.testing.assert_array_equal(learnt, MASK & FINISHED[:, None])
    np.testing.assert_allclose(targets[0], [1.5, 1.5, 1.0, 0.0])
    np.testing.assert_array_equal(targets[1], 0.0)


def test_every_token_meets_the_policy_once_and_the_critic_once():
    """A response of 5 tokens in windows of 2: policy masks are windows, the critic waits."""
    slots = jnp.arange(6)
    policy, critic = jnp.zeros(6), jnp.zeros(6)
    for window in range(3):
        so_far = (slots < min(2 * (window + 1), 5))[None]
        policy += (so_far & (slots >= 2 * window))[0]
        ended = jnp.array([window == 2])
        values = jnp.ones((1, 6))
        _, learnt = lambda_returns(0 * values, values, so_far, ended, truncation="hold")
        critic += learnt[0]
    np.testing.assert_array_equal(policy, slots < 5)
    np.testing.assert_array_equal(critic, slots < 5)


@pytest.mark.parametrize(
    "new, returns, loss, gradient, stopped",  # value before the step 0, clip 0.5
    [
        (0.2, 1.0, 0.32, -0.8, False),  # inside
        (0.8, 1.0, 0.125, 0.0, True),  # far enough in the right direction
        (0.8, 0.0, 0.32, 0.8, False),  # far in the wrong direction: pulled back
        (-0.8, -1.0, 0.125, 0.0, True),
        (-0.8, 1.0, 1.62, -1.8, False),
    ],
)
def test_clipped_value_loss(new, returns, loss, gradient, stopped):
    one = jnp.ones((1, 1))

    def total(v):
        return critic_loss(v * one, 0 * one, returns * one, one > 0)[0].sum()

    np.testing.assert_allclose(
        jax.value_and_grad(total)(new), [loss, gradient], rtol=1e-5, atol=1e-6
    )
    _, metrics = critic_loss(new * one, 0 * one, returns * one, one > 0)
    assert float(metrics["value_clip_share"].mean()) == stopped


def test_no_clip_is_the_plain_loss_and_junk_stays_outside():
    new = jnp.where(MASK, VALUES + 1.0, jnp.nan)
    old, returns = (jnp.where(MASK, x, jnp.inf) for x in (VALUES, REWARDS))
    loss, metrics = critic_loss(new, old, returns, MASK, value_clip=None)
    np.testing.assert_array_equal(loss, value_loss(new, returns, MASK)[0])
    assert "value_clip_share" not in metrics

    def wide(v):
        return critic_loss(v, old, returns, MASK, value_clip=1e6)[0].sum()

    def plain(v):
        return value_loss(v, returns, MASK)[0].sum()

    np.testing.assert_array_equal(jax.grad(wide)(new), jax.grad(plain)(new))
    assert np.isfinite(jax.grad(wide)(new)).all()


def test_a_value_inside_the_clip_is_not_moved_by_rounding():
    rng = np.random.default_rng(0)
    old = jnp.asarray(rng.normal(size=(1, 500)), jnp.float32)
    new = old + jnp.asarray(rng.uniform(-0.4, 0.4, (1, 500)), jnp.float32)
    _, metrics = critic_loss(new, old, 100.0 + 0 * old, jnp.ones((1, 500), bool))
    assert float(metrics["value_clip_share"].mean()) == 0.0


def test_explained_variance_from_sums_of_micro_batches():
    rng = np.random.default_rng(1)
    returns, noise = (jnp.asarray(rng.normal(size=(4, 8)), jnp.float32) for _ in range(2))
    mask = jnp.asarray(rng.random((4, 8)) < 0.7)
    new = returns + 0.5 * noise + 3.0
    parts = [
        critic_loss(new[i], new[i], returns[i], mask[i])[1] for i in (slice(0, 1), slice(1, 4))
    ]
    metrics = jax.tree.map(jnp.add, *parts)
    inside, m = np.asarray(returns, np.float64)[mask], np.asarray(mask)
    residual = inside - np.asarray(new, np.float64)[m]
    np.testing.assert_allclose(
        explained_variance(metrics), 1 - residual.var() / inside.var(), rtol=1e-4
    )


@pytest.mark.parametrize(
    "new, returns, expected",
    [
        ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 1.0),
        ([6.0, 7.0, 9.0], [1.0, 2.0, 4.0], 1.0),  # off by a constant
        ([3.0, 3.0, 3.0], [1.0, 2.0, 4.0], 0.0),
        ([4.0, 3.0, 1.0], [1.0, 2.0, 4.0], -3.0),  # backwards
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], 0.0),  # returns that do not vary
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 0.0),
    ],
)
def test_explained_variance_of_known_critics(new, returns, expected):
    new, returns = jnp.array([new]), jnp.array([returns])
    _, metrics = critic_loss(new, new, returns, jnp.ones((1, 3), bool))
    np.testing.assert_allclose(explained_variance(metrics), expected, atol=1e-5)


def test_impossible_fields_of_the_critic_are_errors():
    with pytest.raises(ValueError, match="value_clip is 0.0"):
        critic_loss(VALUES, VALUES, REWARDS, MASK, value_clip=0.0)
    with pytest.raises(ValueError, match="value_lambda is 1.5"):
        lambda_returns(REWARDS, VALUES, MASK, FINISHED, value_lambda=1.5)
    with pytest.raises(ValueError, match="truncation is 'bootstrap'"):
        lambda_returns(REWARDS, VALUES, MASK, FINISHED, truncation="bootstrap")
