"""TD(lambda) targets and the loss of a value function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.values import td_lambda_returns, value_loss

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
    one_row = lambda x: jnp.asarray(x, jnp.float32)[None]  # noqa: E731
    returns = td_lambda_returns(
        one_row(values), one_row(rewards), jnp.ones((1, 6), bool), gamma=gamma, lam=lam
    )
    np.testing.assert_allclose(returns[0], expected, rtol=1e-5, atol=1e-6)


def test_masked_slots_are_skipped_wherever_they_are_and_may_hold_nan():
    """A hole in the middle and padding on the left give what the compact row gives."""
    slots = np.array([1, 2, 5])
    spread = lambda x: jnp.full((1, 7), jnp.nan).at[0, slots].set(x[0, :3])  # noqa: E731
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
    total = lambda v, r: td_lambda_returns(v, r, MASK).sum()  # noqa: E731
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
