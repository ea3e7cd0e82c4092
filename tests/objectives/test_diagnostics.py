import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.diagnostics import (
    clip_shares,
    effective_sample_size,
    gradient_noise,
    kl_sums,
    masked_quantile,
    pass_at_k,
    policy_diagnostics,
    sampler_gap,
)
from rljax.objectives.metrics import row_sums

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
    estimate = row_sums(padded(values), jnp.asarray(MASK))
    sums = np.where(MASK, values, 0).sum(1)[:3]
    lengths = MASK.sum(1)[:3]
    mean = sums.sum() / 6
    error = math.sqrt(3 / 2 * ((sums - mean * lengths) ** 2).sum()) / 6
    assert (float(estimate.mean()), float(estimate.error())) == pytest.approx(
        (mean, error), rel=1e-5
    )
    # Rows of one token: the textbook error of a mean.
    column = jnp.asarray(values[:, :1])
    plain = row_sums(column, jnp.ones((4, 1), bool))
    textbook = values[:, 0].std(ddof=1) / 2
    assert plain.error() == pytest.approx(textbook, rel=1e-5)
    one = row_sums(jnp.ones((1, 4)), jnp.ones((1, 4), bool))
    assert one.mean() == 1 and math.isnan(one.error())


def test_kl_estimates_agree_within_their_errors():
    """20 000 samples of one policy over three tokens; k1 and k3 are unbiased."""
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.25, 0.25])
    tokens = np.random.default_rng(4).choice(3, p=p, size=(5000, 4))
    sums = kl_sums(
        jnp.asarray(np.log(p)[tokens]), jnp.asarray(np.log(q)[tokens]), jnp.ones((5000, 4), bool)
    )
    exact = (p * np.log(p / q)).sum()
    for name in ("k1", "k3"):
        mean, error = sums[name].mean(), sums[name].error()
        assert abs(mean - exact) < 4 * error and 0 < error < 0.01
    assert sums["k2"].mean() == pytest.approx((p * np.log(p / q) ** 2).sum() / 2, rel=0.1)


def test_gap_of_sampler_and_trainer():
    gap = np.array([[0.5, -1.0, 0.0, 9], [0.25, 9, 9, 9], [NAN, 0.0, 9, 9], [9] * 4])
    old = padded(-2.0)
    behavior = jnp.where(MASK, old - gap, NAN)
    metrics = sampler_gap(old, behavior, MASK)
    gaps = metrics.pop("sampler_trainer").numbers("sampler_trainer")
    means = {k: float(v.mean()) for k, v in metrics.items()}
    x = np.array([0.5, -1.0, 0.0, 0.25, 0.0, 0.0])
    expected = {
        "sampler_trainer_gap": np.abs(x).mean(),
        "sampler_trainer_k1": -x.mean(),
        "sampler_trainer_k3": (np.exp(x) - 1 - x).mean(),
        "sampler_unknown": 1 / 6,
    }
    assert means == pytest.approx(expected, rel=1e-5)
    assert gaps["sampler_trainer_gap_max"] == pytest.approx(1.0, rel=0.09)


def noise_of(gradients, sequences):
    """The estimate from micro-batch gradients [M, P]."""
    m, mean = len(gradients), gradients.mean(0)
    squares = jnp.asarray(((gradients / m) ** 2).sum())
    return gradient_noise(squares, (mean**2).sum(), micro_batches=m, sequences=sequences)


def test_gradient_noise_is_unbiased():
    """Exactly, over all draws of 2 micro-batches of 1 from a population of 3 gradients."""
    population = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    true = population.mean(0)
    found = [noise_of(population[[i, j]], 1)[:2] for i in range(3) for j in range(3)]
    signal, trace = np.mean(found, axis=0)
    assert signal == pytest.approx((true**2).sum(), rel=1e-5)
    assert trace == pytest.approx(((population - true) ** 2).sum(1).mean(), rel=1e-5)


def test_gradient_noise_by_the_formulas_of_the_paper():
    b, m = 8, 3
    gradients = np.random.default_rng(8).normal(2.0, size=(m, 2))
    small, whole = (gradients**2).sum(1).mean(), (gradients.mean(0) ** 2).sum()
    signal = (b * m * whole - b * small) / (b * m - b)
    trace = (small - whole) / (1 / b - 1 / (b * m))
    numbers = noise_of(gradients, b).numbers("gradient")
    expected = {"signal": signal, "variance": trace, "noise_scale": trace / signal}
    assert {k: float(v) for k, v in numbers.items()} == pytest.approx(
        {f"gradient_{name}": value for name, value in expected.items()}, rel=1e-5
    )
    same = noise_of(np.ones((3, 2)), b).numbers("gradient")  # no noise at all
    assert same["gradient_variance"] == pytest.approx(0, abs=1e-5)
    only_noise = noise_of(np.array([[1.0], [-1.0]]), b)
    assert math.isnan(only_noise.numbers("gradient")["gradient_noise_scale"])
    one_part_alone = noise_of(np.array([[0.1, 0.7], [0.0, 0.0]]), b)  # |G|^2 is rounding
    assert math.isnan(one_part_alone.numbers("gradient")["gradient_noise_scale"])
    # Steps are averaged before they are divided.
    two = jax.tree.map(jnp.add, noise_of(gradients, b), only_noise).numbers("gradient")
    both = (trace + only_noise.covariance_trace) / (signal + only_noise.squared_norm)
    assert two["gradient_noise_scale"] == pytest.approx(float(both), rel=1e-5)
    with pytest.raises(ValueError, match="at least 2 micro-batches, got 1"):
        gradient_noise(jnp.ones(()), 1.0, micro_batches=1, sequences=1)


diagnose = jax.jit(policy_diagnostics)


def numbers_of(metrics):
    return {k: float(x) for name, m in metrics.items() for k, x in m.numbers(name).items()}


def test_diagnostics_of_policies_by_hand():
    old, ref = np.full(MASK.shape, -1.0), np.full(MASK.shape, -2.0)
    moved = np.log([[2.0, 1.0, 0.5, 9], [1.0, 9, 9, 9], [1.0, 1.0, 9, 9], [9] * 4])
    behavior = np.where(np.arange(4) == 0, old - np.log(2.0), NAN)  # one of each row is reported
    arrays = (padded(x) for x in (old + moved, old, behavior))
    numbers = numbers_of(jax.device_get(diagnose(*arrays, jnp.asarray(MASK), padded(ref))))
    # policy / sampler: 4, 1, 1 | 2 | 2, 1: what is not reported counts as 1.
    assert numbers["effective_sample_size"] == pytest.approx(11**2 / (27 * 6), rel=1e-5)
    x = moved[MASK]
    assert numbers["old_policy_kl_k1"] == pytest.approx(-x.mean(), abs=1e-6)
    assert numbers["old_policy_kl_k2"] == pytest.approx((x**2 / 2).mean(), rel=1e-5)
    assert numbers["old_policy_kl_k3"] == pytest.approx((np.exp(x) - 1 - x).mean(), rel=1e-5)
    assert numbers["kl_to_start_k1"] == pytest.approx(1 + x.mean(), rel=1e-5)
    y = 1 + x  # log policy / reference
    assert numbers["kl_to_start"] == pytest.approx((np.exp(-y) - 1 + y).mean(), rel=1e-5)
    assert numbers["kl_to_start_k3"] == numbers["kl_to_start"]
    assert numbers["kl_to_start_k1_error"] >= 0
    assert numbers["ratio_q50"] == 1
    assert math.log(numbers["ratio_max"]) == pytest.approx(math.log(2), rel=0.09)
    assert math.log(numbers["ratio_min"]) == pytest.approx(-math.log(2), rel=0.09)
    alone = jax.eval_shape(policy_diagnostics, *[padded(old)] * 3, jnp.asarray(MASK))
    assert not any("start" in name for name in alone)


def test_diagnostics_of_parts_add_up_to_those_of_the_whole():
    """Also where a part is empty, and on the host as in a compiled program."""
    rng = np.random.default_rng(9)
    mask = np.arange(6) < rng.integers(0, 7, (12, 1))
    mask[:3] = False
    logprobs = [np.where(mask, rng.normal(size=mask.shape), NAN) for _ in range(4)]
    arrays = [np.float32(x) for x in logprobs[:3]] + [mask, np.float32(logprobs[3])]
    parts = [jax.device_get(diagnose(*(x[i : i + 3] for x in arrays))) for i in range(0, 12, 3)]
    added = numbers_of(jax.tree.map(lambda *x: np.sum(x, axis=0, dtype=np.float64), *parts))

    @jax.jit
    def compiled(*arrays):
        metrics = policy_diagnostics(*arrays).items()
        return {k: x for name, metric in metrics for k, x in metric.numbers(name).items()}

    whole = compiled(*arrays)
    assert whole.keys() == added.keys() and len(whole) > 20
    for name, number in whole.items():
        np.testing.assert_allclose(added[name], number, rtol=1e-4, atol=1e-6, err_msg=name)
    # Nothing was sampled: nothing is a number.
    assert all(math.isnan(number) for number in numbers_of(parts[0]).values())


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
