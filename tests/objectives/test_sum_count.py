import jax
import jax.numpy as jnp
import numpy as np

from rljax.objectives.metrics import masked
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


def test_sequence_logprobs_sum_and_do_not_average():
    logprobs = jnp.array([[-1.0, -2.0, jnp.nan], [-jnp.inf, jnp.nan, -5.0]])
    mask = jnp.array([[True, True, False], [False, False, False]])
    np.testing.assert_array_equal(sequence_logprobs(logprobs, mask), [-3.0, 0.0])
    gradient = jax.grad(lambda lp: sequence_logprobs(lp, mask).sum())(logprobs)
    np.testing.assert_array_equal(gradient, mask.astype(float))
