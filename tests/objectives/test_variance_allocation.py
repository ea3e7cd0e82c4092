"""Samples by the variance of the gradient: shares, whole numbers, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages.accepted import accepted_mean
from rljax.objectives.curricula.optimum_distance import kl_second_order, kl_to_optimum
from rljax.objectives.variance_allocation import by_variance, sample_shares, whole_samples

RATES = np.array([0.9, 0.5, 0.1, 0.05, 0.0])


def test_the_example_of_the_paper():
    shares = sample_shares(RATES, np.ones(5), 100, by_variance())
    np.testing.assert_allclose(shares, [0.1138, 0.1524, 0.3256, 0.4082, 0], atol=5e-5)


def test_without_damping_shares_go_by_the_root():
    norms = np.array([1.0, 2.0, 3.0, 1.0, 5.0])
    shares = sample_shares(RATES, norms, 100, by_variance(damping=0.0))
    expected = norms[:4] / np.sqrt(RATES[:4])
    np.testing.assert_allclose(shares[:4], expected / expected.sum(), rtol=1e-5)
    assert shares[4] == 0


def test_the_scale_of_gradients_says_nothing():
    norms = np.array([1.0, 2.0, 3.0, 1.0, 5.0])
    one, other = (sample_shares(RATES, c * norms, 64, by_variance()) for c in (1, 1e3))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_damping_turns_at_the_root_of_alpha():
    rates = np.linspace(0.002, 1, 500)
    shares = sample_shares(rates, np.ones(500), 500, by_variance())
    assert rates[shares.argmax()] == pytest.approx(np.sqrt(1e-3), abs=2e-3)
    shares = np.asarray(shares)
    assert (np.diff(shares[rates > 0.034]) < 0).all() and (np.diff(shares[rates < 0.03]) > 0).all()


def test_prompts_that_are_too_easy_or_too_hard_leave():
    plan = by_variance(success_limit=0.8, least_right=4.0)
    # Of all four the last one would get 41 of 100 samples, and two right ones.
    shares = sample_shares(RATES, np.ones(5), 100, plan)
    assert shares.tolist() == [0, 1, 0, 0, 0]


def test_where_nothing_is_right_all_get_the_same():
    plan = by_variance()
    assert sample_shares(np.zeros(4), np.ones(4), 8, plan).tolist() == [0.25] * 4
    assert sample_shares(np.ones(4), np.zeros(4), 8, plan).tolist() == [0.25] * 4


def test_whole_numbers_sum_to_the_budget():
    rng = np.random.default_rng(0)
    for size, budget in ((1, 8), (3, 8), (7, 64), (64, 64), (512, 100)):
        counts = whole_samples(rng.dirichlet(np.full(size, 0.3)), budget)
        assert counts.sum() == budget and (counts >= 0).all()
    # 2.5 and 2.5 are both rounded to 2: the first one gets what is missing.
    assert whole_samples(np.array([0.5, 0.5]), 5).tolist() == [3, 2]
    # 1.6 four times is 8: one is too much.
    assert sorted(whole_samples(np.full(5, 0.2), 8)) == [1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("field", "value"),
    [("pilot_samples", 0), ("damping", -1.0), ("success_limit", 0.0), ("least_right", -1.0)],
)
def test_fields_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        by_variance(**{field: value})


def test_the_estimate_varies_less_than_with_equal_numbers():
    """The mean over right samples of each prompt, gradients of norm G and random sign."""
    rng, repeats, budget = np.random.default_rng(0), 4000, 160
    rates, norms = np.array([0.9, 0.5, 0.25, 0.2]), np.array([1.0, 2.0, 3.0, 1.0])
    plan = by_variance(damping=0.0)

    def variance(counts):
        right = rng.binomial(counts, rates, (repeats, 4))
        sums = 2 * rng.binomial(right, 0.5) - right
        return (norms * sums / np.maximum(right, 1)).sum(axis=1).var()

    chosen = np.asarray(whole_samples(sample_shares(rates, norms, budget, plan), budget))
    assert variance(chosen) < 0.85 * variance(np.full(4, budget // 4))
    # Where G / sqrt(p) is the same everywhere there is nothing to gain.
    alike = sample_shares(rates, np.sqrt(rates), budget, plan)
    np.testing.assert_allclose(alike, 0.25, rtol=1e-5)


def test_prompts_weigh_the_same_however_often_they_were_sampled():
    scores = jnp.array([1.0, 1.0, -1.0, 0.5, 0.0, -0.5])
    ids = jnp.array([7, 7, 7, 3, 3, 9])
    mask = jnp.ones((6, 2), bool).at[2, 1].set(False)
    rewards = jnp.zeros((6, 2)).at[:, 0].set(scores)
    found = accepted_mean(rewards, mask, ids)
    # Six samples, two prompts with a right one: 6 / 2 for each prompt, shared by its right ones.
    expected = np.array([1.5, 1.5, 0, 3, 0, 0])[:, None] * np.asarray(mask)
    np.testing.assert_allclose(found, expected)
    nothing = accepted_mean(-jnp.abs(rewards), mask, ids)
    assert not nothing.any()


def test_the_distance_to_the_optimum_is_that_of_enumeration():
    """Four completions, one of them right; and half p (1 - p) / b^2 for a weak reward."""
    policy, right, strength = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 0]), 1.7
    best = policy * np.exp(right * strength)
    best /= best.sum()
    expected = (policy * np.log(policy / best)).sum()
    assert float(kl_to_optimum(0.2, strength)) == pytest.approx(expected, rel=1e-5)
    with jax.enable_x64(True):
        weak = kl_to_optimum(jnp.float64(0.3), 1e-3)
        assert float(weak / kl_second_order(0.3, 1e-3)) == pytest.approx(1.0, abs=1e-3)
