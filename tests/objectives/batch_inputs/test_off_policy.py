import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs import TOKEN_WEIGHTS

NAN, INF = np.nan, np.inf
# Ratios current / sampler; the last slot is padding, the last row empty.
RATIO = np.array([[1.0, 4.0, 0.25, 1.0], [2.0, 2.0, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0], [1, 1, 1, 1]])
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
BEHAVIOR = jnp.asarray(np.where(MASK, -3.0, [NAN, INF, -INF, NAN]))
CURRENT = jnp.asarray(np.where(MASK, np.log(RATIO) - 3.0, NAN))

weigh = TOKEN_WEIGHTS["off_policy"]


@pytest.mark.parametrize(
    "sign, divergence, rows",  # mean of log sampler - log current of the rows: 0, -log 2, log 2, 0
    [
        (1.0, 0.1, [1, 1, 1, 1]),
        (0.0, 0.1, [1, 1, 1, 1]),
        (-1.0, 0.1, [1, 1, 0, 1]),
        (-1.0, 0.7, [1, 1, 1, 1]),
        (-1.0, 0.0, [1, 1, 0, 1]),  # at the bound itself a row stays
    ],
)
def test_only_falling_sequences_leave_for_being_off_policy(sign, divergence, rows):
    advantages = jnp.where(MASK, sign, NAN)
    weights = weigh(CURRENT, BEHAVIOR, advantages, MASK, off_policy_divergence=divergence)
    expected = np.where(MASK, np.array(rows)[:, None], 1)
    np.testing.assert_array_equal(weights, expected)


def test_a_sampler_that_reports_nothing_counts_as_the_policy_itself():
    silent = BEHAVIOR.at[2, 0].set(NAN)
    np.testing.assert_array_equal(weigh(CURRENT, silent, -jnp.ones(MASK.shape), MASK), 1.0)


def test_weights_are_constants():
    gradient = jax.grad(lambda x: weigh(x, BEHAVIOR, -jnp.ones(MASK.shape), MASK).sum())(CURRENT)
    np.testing.assert_array_equal(gradient, 0.0)


def test_a_negative_bound_is_an_error():
    with pytest.raises(ValueError, match="off_policy_divergence is -0.1; it must be >= 0"):
        weigh(CURRENT, BEHAVIOR, BEHAVIOR, MASK, off_policy_divergence=-0.1)
