import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.diagnostics import (
    chi_squared,
    clip_shares,
    effective_sample_size,
    gradient_noise,
    kl_estimates,
    masked_quantile,
    mean_over_tokens,
    pass_at_k,
    ratio_spread,
    sampler_gap,
    sampler_gap_max,
    solved_differences,
)

NAN = np.nan
MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
NOTHING = jnp.zeros((2, 2), bool)


def padded(values):
    return jnp.asarray(np.where(MASK, values, NAN))


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.5, 0.83, 1.0])
def test_quantile_of_true_slots(quantile):
    values = np.random.default_rng(0).normal(size=MASK.shape)
    found = jax.jit(masked_quantile)(padded(values), jnp.asarray(MASK), quantile)
    assert found == pytest.approx(np.quantile(values[MASK], quantile), rel=1e-5)
    assert masked_quantile(jnp.ones((2, 2)), NOTHING, quantile) == 0


def test_effective_sample_size():
    assert effective_sample_size(padded(0.3), MASK) == pytest.approx(1.0)
    alone = np.where(np.cumsum(MASK).reshape(MASK.shape) == 1, 5.0, 0.0)
    assert effective_sample_size(padded(alone), MASK) == pytest.approx(1 / MASK.sum())
    assert effective_sample_size(padded(0.0), MASK) == 0
    # 1 / mean((w / mean w)^2)
    weights = np.random.default_rng(1).uniform(size=MASK.shape)
    w = weights[MASK]
    expected = 1 / np.mean((w / w.mean()) ** 2)
    assert effective_sample_size(padded(weights), MASK) == pytest.approx(expected, rel=1e-5)


def test_a_larger_lag_means_fewer_effective_samples():
    steps = np.random.default_rng(2).normal(size=MASK.shape)
    sizes = [effective_sample_size(jnp.exp(lag * padded(steps)), MASK) for lag in (0, 0.3, 1, 3)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == pytest.approx(1.0)


def test_chi_squared_by_enumeration():
    """Each token as often as the second policy samples it: mean ratio^2 - 1 = sum p^2 / q - 1."""
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    sampled = np.repeat(np.arange(3), [1, 2, 1])
    log_ratio = jnp.asarray(np.log(p / q)[sampled])[None]
    found = chi_squared(log_ratio, jnp.ones((1, 4), bool)).mean()
    assert found == pytest.approx((p**2 / q).sum() - 1, rel=1e-6)
    assert np.isfinite(chi_squared(jnp.full((1, 1), 99.0), jnp.ones((1, 1), bool)).total)


def test_extremes_and_quantiles_of_ratios():
    ratios = np.array([[1.0, 2.0, 4.0, 9.0], [0.5, 9, 9, 9], [1.0, 1.0, 9, 9], [9] * 4])
    spread = ratio_spread(padded(np.log(ratios)), jnp.asarray(MASK), quantiles=(0.5, 0.9))
    expected = {"ratio_min": 0.5, "ratio_max": 4.0, "ratio_q50": 1.0, "ratio_q90": 3.0}
    assert {k: float(v) for k, v in spread.items()} == pytest.approx(expected, rel=1e-5)
    assert set(map(float, ratio_spread(jnp.ones((2, 2)), NOTHING).values())) == {1.0}
    with pytest.raises(ValueError, match="quantiles is 50"):
        ratio_spread(jnp.ones((2, 2)), NOTHING, quantiles=(50,))


def test_clip_shares_keep_the_four_cases_apart():
    ratios = np.log([[2.0, 2.0, 0.5, 9], [1.0, 9, 9, 9], [2.0, 0.5, 9, 9], [9] * 4])
    signs = [[1, -1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1] * 4]
    shares = clip_shares(
        padded(ratios), padded(signs), jnp.asarray(MASK), clip_low=0.2, clip_high=0.28
    )
    assert {name: float(share.mean() * MASK.sum()) for name, share in shares.items()} == (
        pytest.approx(
            {
                "clip_share_positive_high": 2,
                "clip_share_positive_low": 1,
                "clip_share_negative_high": 1,
                "clip_share_negative_low": 0,
            }
        )
    )


def test_standard_error_over_sequences():
    values = np.random.default_rng(3).normal(size=MASK.shape)
    estimate = mean_over_tokens(padded(values), jnp.asarray(MASK))
    sums = np.where(MASK, values, 0).sum(1)[:3]
    lengths = MASK.sum(1)[:3]
    mean = sums.sum() / 6
    error = math.sqrt(3 / 2 * ((sums - mean * lengths) ** 2).sum()) / 6
    assert (float(estimate.mean), float(estimate.standard_error)) == pytest.approx(
        (mean, error), rel=1e-5
    )
    # Rows of one token: the textbook error of a mean.
    column = jnp.asarray(values[:, :1])
    plain = mean_over_tokens(column, jnp.ones((4, 1), bool))
    textbook = values[:, 0].std(ddof=1) / 2
    assert plain.standard_error == pytest.approx(textbook, rel=1e-5)
    one = mean_over_tokens(jnp.ones((1, 4)), jnp.ones((1, 4), bool))
    assert one.mean == 1 and math.isnan(one.standard_error)


def test_kl_estimates_agree_within_their_errors():
    """20 000 samples of one policy over three tokens; k1 and k3 are unbiased."""
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.25, 0.25])
    tokens = np.random.default_rng(4).choice(3, p=p, size=(5000, 4))
    estimates = kl_estimates(
        jnp.asarray(np.log(p)[tokens]), jnp.asarray(np.log(q)[tokens]), jnp.ones((5000, 4), bool)
    )
    exact = (p * np.log(p / q)).sum()
    for name in ("k1", "k3"):
        mean, error = estimates[name]
        assert abs(mean - exact) < 4 * error and error < 0.01
    assert estimates["k2"].mean == pytest.approx((p * np.log(p / q) ** 2).sum() / 2, rel=0.1)


def test_gap_of_sampler_and_trainer():
    gap = np.array([[0.5, -1.0, 0.0, 9], [0.25, 9, 9, 9], [NAN, 0.0, 9, 9], [9] * 4])
    old = padded(-2.0)
    behavior = jnp.where(MASK, old - gap, NAN)
    means = {k: float(v.mean()) for k, v in sampler_gap(old, behavior, MASK).items()}
    x = np.array([0.5, -1.0, 0.0, 0.25, 0.0, 0.0])
    expected = {
        "sampler_gap": np.abs(x).mean(),
        "sampler_k1": -x.mean(),
        "sampler_k3": (np.exp(x) - 1 - x).mean(),
        "sampler_unknown": 1 / 6,
    }
    assert means == pytest.approx(expected, rel=1e-5)
    assert sampler_gap_max(old, behavior, MASK) == pytest.approx(1.0)


def test_gradient_noise_is_unbiased():
    """Exactly, over all draws of 2 micro-batches of 1 from a population of 3 gradients."""
    population = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    true = population.mean(0)
    found = []
    for i in range(3):
        for j in range(3):
            pair = population[[i, j]]
            norms = jnp.asarray((pair**2).sum(1))
            found.append(gradient_noise(norms, (pair.mean(0) ** 2).sum(), sequences=1)[:2])
    signal, trace = np.mean(found, axis=0)
    assert signal == pytest.approx((true**2).sum(), rel=1e-5)
    assert trace == pytest.approx(((population - true) ** 2).sum(1).mean(), rel=1e-5)


def test_gradient_noise_by_the_formulas_of_the_paper():
    squared, whole, b, m = np.array([5.0, 3.0, 4.0]), 2.0, 8, 3
    noise = gradient_noise(jnp.asarray(squared), whole, sequences=b)
    signal = (b * m * whole - b * squared.mean()) / (b * m - b)
    trace = (squared.mean() - whole) / (1 / b - 1 / (b * m))
    assert list(map(float, noise)) == pytest.approx([signal, trace, trace / signal], rel=1e-6)
    same = gradient_noise(jnp.full(3, 2.0), 2.0, sequences=b)  # no noise at all
    assert same.covariance_trace == 0 and same.noise_scale == 0
    assert math.isnan(gradient_noise(jnp.full(3, 2.0), 0.1, sequences=b).noise_scale)
    with pytest.raises(ValueError, match="at least 2 micro-batches, got 1"):
        gradient_noise(jnp.ones(1), 1.0, sequences=1)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_of_groups_of_several_sizes(k):
    sizes, right = {8: 4, 3: 6, 5: 1, 1: 5}, {8: 2, 3: 0, 5: 1, 1: 4}
    groups = np.concatenate([[g] * n for g, n in sizes.items()])
    correct = np.concatenate([np.arange(n) < right[g] for g, n in sizes.items()])
    order = np.random.default_rng(5).permutation(len(groups))
    mask = jnp.ones((len(groups), 1), bool)
    found = pass_at_k(jnp.asarray(correct[order]), jnp.asarray(groups[order]), mask, k=k)
    expected = [
        1 - math.comb(n - right[g], k) / math.comb(n, k) for g, n in sizes.items() if n >= k
    ]
    assert found.count == pytest.approx(len(expected))
    assert found.mean() == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(ValueError, match="k is 0"):
        pass_at_k(jnp.asarray(correct), jnp.asarray(groups), mask, k=0)


def test_solved_differences_see_what_equal_accuracies_hide():
    shares = solved_differences(jnp.array([1, 1, 0, 0, 0]), jnp.array([0, 1, 1, 0, 0]))
    assert {name: float(share.mean()) for name, share in shares.items()} == pytest.approx(
        {
            "solved_by_both": 0.2,
            "solved_by_first_only": 0.2,
            "solved_by_second_only": 0.2,
            "solved_by_neither": 0.4,
        }
    )
