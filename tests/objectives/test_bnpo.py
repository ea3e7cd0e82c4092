import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import beta as beta_function

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.advantages.bnpo import (
    BetaParameters,
    fitted_beta,
    inverse_density,
    normalising_beta,
)

BNPO = jax.jit(ADVANTAGES["bnpo"])
FIT = jax.jit(fitted_beta)
GROUPS = np.repeat([4, 0, 9, 2], 4)
MASK = np.ones((16, 1), bool)


def rewards(*solved):
    """Four prompts with so many right samples out of four."""
    return np.concatenate([np.arange(4) < k for k in solved]).astype(np.float32)[:, None]


def reference(scores):
    """The equations of the paper in float64, prompt by prompt."""
    p = scores.astype(np.float64).reshape(4, 4).mean(axis=1)
    mu, v = p.mean(), p.var(ddof=1)
    k = mu * (1 - mu) / v - 1
    alpha, beta = max(1 + k * mu / 3, 1), max(1 + k * (1 - mu) / 3, 1)
    with np.errstate(divide="ignore"):
        density = p ** (alpha - 1) * (1 - p) ** (beta - 1) / beta_function(alpha, beta)
        weight = np.minimum(1 / density, 1e6)
    return np.repeat(weight, 4) * (scores[:, 0] - np.repeat(p, 4)), alpha, beta


@pytest.mark.parametrize("solved", [(1, 2, 3, 1), (0, 4, 2, 2), (2, 3, 2, 2)])
def test_advantages_and_parameters_match_the_equations(solved):
    scores = rewards(*solved)
    expected, alpha, beta = reference(scores)
    np.testing.assert_allclose(BNPO(scores, MASK, GROUPS)[:, 0], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(FIT(scores, MASK, GROUPS), (alpha, beta), rtol=2e-5)


def test_a_polarised_batch_and_equal_rates_and_one_prompt_leave_the_group_mean():
    # Rates 0, 0, 1, 1: k < 0. Rates all equal: v = 0. One prompt: no variance.
    for scores, groups in (
        (rewards(0, 0, 4, 4), GROUPS),
        (rewards(1, 1, 1, 1), GROUPS),
        (rewards(1, 2, 3, 1), np.zeros(16, int)),
    ):
        np.testing.assert_allclose(FIT(scores, MASK, groups), (1.0, 1.0))
        centred = ADVANTAGES["group_mean"](scores, MASK, groups)
        np.testing.assert_allclose(BNPO(scores, MASK, groups), centred, rtol=1e-6, atol=1e-7)


def test_beta_of_one_and_a_half_is_grpo_with_the_biased_deviation():
    rates = np.array([0.125, 0.5, 0.9], np.float32)
    weight = inverse_density(rates, BetaParameters(jnp.array(1.5), jnp.array(1.5)))
    np.testing.assert_allclose(weight, np.pi / 8 / np.sqrt(rates * (1 - rates)), rtol=1e-5)
    np.testing.assert_allclose(inverse_density(rates, BetaParameters(1.0, 1.0)), 1.0, rtol=1e-6)


def test_the_weight_is_finite_at_the_edges():
    for alpha, beta, expected in ((2.0, 1.0, (1e6, 0.5)), (1.0, 2.0, (0.5, 1e6))):
        parameters = BetaParameters(jnp.array(alpha), jnp.array(beta))
        weight = inverse_density(np.array([0.0, 1.0], np.float32), parameters)
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_the_density_minimises_the_variance_of_the_estimator():
    """For success rates that are uniform, a = b = 1: E[p (1 - p) / f(p)^2]."""
    p = ((np.arange(20_000) + 0.5) / 20_000).astype(np.float32)

    def proxy(alpha, beta):
        weight = inverse_density(p, BetaParameters(jnp.array(alpha), jnp.array(beta)))
        return float((p * (1 - p) * weight**2).mean())

    fitted = normalising_beta(p, np.ones_like(p))
    np.testing.assert_allclose(fitted, 4 / 3, rtol=1e-3)
    values = [proxy(*fitted), proxy(1.5, 1.5), proxy(1.0, 1.0)]
    np.testing.assert_allclose(values, [0.1489, 0.1542, 0.1667], atol=1e-4)
    assert proxy(*fitted) < min(proxy(1.25, 4 / 3), proxy(4 / 3, 1.42), proxy(1.42, 1.42))


def test_rewards_of_another_range_are_scaled():
    scores = rewards(1, 2, 3, 0)
    got = ADVANTAGES["bnpo"](2 * scores - 1, MASK, GROUPS, reward_min=-1.0, reward_max=1.0)
    np.testing.assert_allclose(got, BNPO(scores, MASK, GROUPS), rtol=1e-5, atol=1e-6)


def test_a_reward_out_of_range_is_loud():
    scores = rewards(1, 2, 3, 0)
    scores[3] = 1.5
    assert np.isnan(BNPO(scores, MASK, GROUPS)).all()
    assert np.isfinite(BNPO(scores, MASK & (np.arange(16) != 3)[:, None], GROUPS)).all()
