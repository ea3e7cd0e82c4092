import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.metrics import (
    BINS,
    SIDE,
    GapCounts,
    RatioCounts,
    WeightSums,
    bin_counts,
    masked,
    quantile,
    row_sums,
)
from rljax.objectives.sequences import sequence_logprobs


def test_masked_counts_only_true_slots():
    metric = masked(jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, False, True]))
    assert (float(metric.total), float(metric.count), float(metric.mean())) == (4.0, 2.0, 2.0)


def test_masked_takes_bools_as_shares():
    metric = masked(jnp.array([True, False, True, True]), jnp.array([True, True, True, False]))
    np.testing.assert_allclose(metric.mean(), 2 / 3, rtol=1e-6)


def test_mean_of_nothing_is_zero():
    assert float(masked(jnp.ones(2), jnp.zeros(2, bool)).mean()) == 0.0


def test_parts_are_weighed_by_their_counts():
    values, mask = jnp.array([2.0, 1.0, 1.0, 2.0]), jnp.ones(4, bool)
    parts = masked(values[:1], mask[:1]), masked(values[1:], mask[1:])
    whole = jax.tree.map(jnp.add, *parts)
    assert float(whole.mean()) == 1.5  # not the mean 5/3 of the two means


def test_metrics_carry_no_gradient():
    gradient = jax.grad(lambda x: masked(x, jnp.ones(2, bool)).total)(jnp.ones(2))
    np.testing.assert_array_equal(gradient, 0.0)


def test_every_bin_holds_its_own_values():
    sizes = 2.0 ** (np.arange(-20 * 8, 5 * 8) / 8 + 1 / 16)
    everything = np.concatenate([-sizes[::-1], [1e-7], sizes])
    counts = jax.jit(bin_counts)(jnp.asarray(everything, jnp.float32), jnp.ones(BINS, bool))
    np.testing.assert_array_equal(counts, 1.0)
    odd = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.0, 1e9, 3.0])
    counts = bin_counts(odd, jnp.array([True] * 5 + [False]))
    assert (counts[0], counts[SIDE], counts[-1], counts.sum()) == (1, 1, 2, 4)


@pytest.mark.parametrize("on_the_host", [False, True])
def test_quantiles_are_exact_up_to_a_bin(on_the_host):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 100)).astype(np.float32) * np.exp(rng.normal(size=(64, 1)))
    mask = rng.random(values.shape) < 0.7
    counts = bin_counts(jnp.asarray(values), jnp.asarray(mask))
    if on_the_host:
        counts = np.asarray(counts, np.float64)
    for q in (0.0, 0.01, 0.2, 0.5, 0.99, 1.0):
        exact = np.quantile(values[mask], q, method="lower")
        assert quantile(counts, q) == pytest.approx(exact, rel=0.0906, abs=1e-6)
    numbers = RatioCounts(counts).numbers("ratio")
    assert list(numbers) == ["ratio_min", "ratio_q1", "ratio_q50", "ratio_q99", "ratio_max"]
    np.testing.assert_allclose(np.log(numbers["ratio_max"]), values[mask].max(), rtol=0.0906)
    empty = GapCounts(counts * 0).numbers("x")
    assert set(empty) == {"x_gap_q99", "x_gap_max"} and all(map(np.isnan, empty.values()))


def test_equal_log_ratios_of_zero_give_ratios_of_exactly_one():
    counts = bin_counts(jnp.zeros((2, 3)), jnp.ones((2, 3), bool))
    assert {float(x) for x in RatioCounts(counts).numbers("ratio").values()} == {1.0}


def test_a_mean_knows_its_error_after_it_was_added_up():
    values = jnp.array([[1.0, 3.0], [2.0, jnp.nan], [6.0, 0.0]])
    mask = jnp.array([[True, True], [True, False], [True, True]])
    parts = [row_sums(values[i : i + 1], mask[i : i + 1]) for i in range(3)]
    numbers = jax.tree.map(lambda *x: np.sum(x), *parts).numbers("kl")
    # y = 4, 2, 6; L = 2, 1, 2; R = 12 / 5; y - R L = -0.8, -0.4, 1.2
    assert numbers["kl"] == pytest.approx(2.4)
    assert numbers["kl_error"] == pytest.approx(np.sqrt(3 / 2 * (0.64 + 0.16 + 1.44)) / 5)
    assert np.isnan(parts[0].error()) and parts[0].mean() == 2


def test_equal_weights_are_worth_all_samples_and_one_alone_is_worth_one():
    def share(*sums):
        return float(WeightSums(*map(jnp.float32, sums)).numbers("x")["x"])

    assert (share(8.0, 16.0, 4), share(2.0, 4.0, 4), share(0.0, 0.0, 4)) == (1.0, 0.25, 0.0)
    assert np.isnan(share(0.0, 0.0, 0))


def test_sequence_logprobs_sum_and_do_not_average():
    logprobs = jnp.array([[-1.0, -2.0, jnp.nan], [-jnp.inf, jnp.nan, -5.0]])
    mask = jnp.array([[True, True, False], [False, False, False]])
    np.testing.assert_array_equal(sequence_logprobs(logprobs, mask), [-3.0, 0.0])
    gradient = jax.grad(lambda lp: sequence_logprobs(lp, mask).sum())(logprobs)
    np.testing.assert_array_equal(gradient, mask.astype(float))
