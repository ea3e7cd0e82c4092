"""A teacher's log-ratio as the advantage, by enumeration of two steps over three tokens."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.arrays import ARRAYS, DISTRIBUTION_ARRAYS
from rljax.objectives.distillation import TEACHERS, log_ratio, teacher_loss, truncated_ratio
from rljax.objectives.parts import inputs_of

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
P_THEN = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [1 / 3, 1 / 3, 1 / 3]])
Q_THEN = np.array([[0.3, 0.3, 0.4], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
# Of KL(P || Q) of the first token, and of both tokens, in the logits of the first; from the
# definitions by hand.
FIRST, BOTH = (0.320702, -0.082466, -0.238236), (0.338934, -0.154705, -0.184229)


def expected_gradient(**fields):
    """Minus the mean of A grad log p over all pairs of tokens, in the logits of the first."""
    total = np.zeros(3)
    for first, second in itertools.product(range(3), repeat=2):
        old = jnp.log(jnp.array([[P[first], P_THEN[first, second]]]))
        teacher = jnp.log(jnp.array([[Q[first], Q_THEN[first, second]]]))
        given = jnp.zeros((1, 2)), old, teacher, jnp.ones((1, 2), bool)
        advantage = float(log_ratio(*given, **fields)[0, 0])
        score = np.eye(3)[first] - P
        total -= P[first] * P_THEN[first, second] * advantage * score
    return total


def test_its_mean_gradient_is_that_of_the_reverse_kl():
    np.testing.assert_allclose(expected_gradient(), FIRST, atol=1e-6)
    np.testing.assert_allclose(expected_gradient(teacher_discount=1.0), BOTH, atol=1e-6)
    doubled = expected_gradient(teacher_weight=2.0)
    np.testing.assert_allclose(doubled, 2 * np.array(FIRST), atol=2e-6)


def test_it_is_added_to_the_reward_and_bounded_where_the_teacher_excludes_a_token():
    mask = jnp.array([[True, True, False]])
    advantages = jnp.array([[1.0, 2.0, 3.0]])
    old, teacher = jnp.full((1, 3), -1.0), jnp.array([[-1.5, -jnp.inf, jnp.nan]])
    found = log_ratio(advantages, old, teacher, mask, reward_weight=0.5, teacher_clip=5.0)
    np.testing.assert_allclose(found, [[0.0, -4.0, 0.0]])
    summed = log_ratio(advantages, old, teacher, mask, teacher_discount=0.5, teacher_clip=5.0)
    np.testing.assert_allclose(summed, [[1.0 - 0.5 - 2.5, -3.0, 0.0]])


def test_it_is_a_constant():
    def total(old):
        return log_ratio(old, old, old, jnp.ones((1, 2), bool)).sum()

    assert not jax.grad(total)(jnp.ones((1, 2))).any()


@pytest.mark.parametrize("fields", [{"teacher_discount": 1.5}, {"teacher_clip": 0.0}])
def test_values_that_are_not_allowed_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name} is .*it must be"):
        log_ratio(*[jnp.ones((1, 1))] * 3, jnp.ones((1, 1), bool), **fields)


def test_a_divergence_counts_on_the_tokens_of_the_mask():
    divergence, mask = jnp.array([[1.0, jnp.nan, 2.0]]), jnp.array([[True, False, True]])
    loss, metrics = teacher_loss(divergence, jnp.zeros_like(divergence), mask)
    np.testing.assert_array_equal(loss, [[1.0, 0.0, 2.0]])
    assert float(metrics["teacher_divergence"].mean()) == 1.5


def test_parts_read_arrays_that_are_described():
    assert set(inputs_of(TEACHERS["log_ratio"])) <= set(ARRAYS)
    assert set(inputs_of(teacher_loss)) <= set(DISTRIBUTION_ARRAYS)


def test_a_token_weighs_as_much_as_its_probability_has_grown_up_to_a_bound():
    """Ratios 1/2, 1.5 and 8; a token that nobody reported; one outside of the mask."""
    behavior = jnp.log(jnp.array([[0.4, 0.4, 0.1, jnp.nan, 0.1]]))
    logprobs = jnp.log(jnp.array([[0.2, 0.6, 0.8, 0.3, 0.9]]))
    mask = jnp.array([[True, True, True, True, False]])
    factor, metrics = truncated_ratio(logprobs, behavior, mask)
    np.testing.assert_allclose(factor, [[0.5, 1.5, 2.0, 1.0, 0.0]], rtol=1e-6)
    assert metrics["correction_share_high"].mean() == pytest.approx(1 / 4)
    slope = jax.grad(lambda x: truncated_ratio(x, behavior, mask)[0].sum())(logprobs)
    np.testing.assert_array_equal(slope, 0.0)
    with pytest.raises(ValueError, match="correction_cap is 0"):
        truncated_ratio(logprobs, behavior, mask, correction_cap=0)
