"""Bounds of the evidence and their advantages: hand values, symmetries, exact expectations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.evidence import (
    BOUNDS,
    evidence_advantages,
    log_mean_exp,
)
from tests.objectives.evidence_batches import ALL, B, G, answers

LOG_BOUNDS = ("single_sample", "multi_sample")  # of log-likelihoods
# One compilation per shape instead of one per operation; one test compares with the plain ones.
JITTED = {name: jax.jit(bound) for name, bound in BOUNDS.items()}


def test_log_mean_exp_of_valid_entries():
    values = jnp.array([[0.0, 1.0, jnp.nan], [-900.0, -901.0, -2.0], [jnp.inf, 1.0, 2.0]])
    valid = jnp.array([[True, True, False], [True, True, False], [False, False, False]])
    value, gradient = jax.value_and_grad(lambda v: log_mean_exp(v, valid).sum())(values)
    expected = np.log((1 + np.e) / 2)
    np.testing.assert_allclose(
        log_mean_exp(values, valid), [expected, expected - 901.0, 0.0], rtol=1e-6
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[0], [1 / (1 + np.e), np.e / (1 + np.e), 0.0], rtol=1e-6)
    np.testing.assert_array_equal(gradient[2], 0.0)


def test_single_sample_hand_values():
    values, valid = jnp.array([[-1.0, -2.0, -6.0, 9.0]]), jnp.array([[True, True, True, False]])
    value, advantages = JITTED["single_sample"](values, valid)
    np.testing.assert_allclose(value, [-3.0], rtol=1e-6)
    np.testing.assert_allclose(advantages, [[3.0, 1.5, -4.5, 0.0]], rtol=1e-6)


def test_multi_sample_hand_values():
    q = jnp.array([[0.1, 0.2, 0.6, 0.9]])
    value, advantages = JITTED["multi_sample"](jnp.log(q), jnp.array([[True, True, True, False]]))
    np.testing.assert_allclose(value, np.log([0.3]), rtol=1e-6)
    expected = np.log([[0.3 / 0.4, 0.3 / 0.35, 0.3 / 0.15, 1.0]])
    np.testing.assert_allclose(advantages, expected, rtol=1e-5, atol=1e-7)


def test_two_samples_are_weighed_by_the_sigmoid_of_their_difference():
    values = jnp.array([[-3.0, -4.5]])
    weights = jax.grad(lambda v: JITTED["multi_sample"](v, jnp.ones((1, 2), bool))[0].sum())(values)
    expected = jax.nn.sigmoid(jnp.array([[1.5, -1.5]]))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_multi_sample_advantages_are_bounded_below_and_signed_like_probabilities():
    values = answers(1)
    _, advantages = JITTED["multi_sample"](values, ALL)
    assert (np.asarray(advantages) >= np.log((G - 1) / G) - 1e-6).all()
    q = np.exp(np.asarray(values, np.float64))
    others = (q.sum(-1, keepdims=True) - q) / (G - 1)
    np.testing.assert_array_equal(np.sign(advantages), np.sign(q - others))
    spike = jnp.array([[0.0, -500.0, -500.0]])
    _, unbounded = JITTED["multi_sample"](spike, jnp.ones((1, 3), bool))
    np.testing.assert_allclose(unbounded[0, 0], 500 - np.log(3), rtol=1e-6)


@pytest.mark.parametrize("bound", LOG_BOUNDS)
def test_a_constant_shifts_the_bound_only(bound):
    value, advantages = JITTED[bound](answers(), ALL)
    shifted, same = JITTED[bound](answers() - 64.0, ALL)
    np.testing.assert_allclose(shifted, value - 64.0, rtol=1e-6)
    np.testing.assert_allclose(same, advantages, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bound", BOUNDS)
def test_samples_permute_and_jit_agrees(bound):
    order = jnp.array([2, 0, 3, 1])
    value, advantages = BOUNDS[bound](answers(), ALL)
    permuted = JITTED[bound](answers()[:, order], ALL)
    np.testing.assert_allclose(permuted[0], value, rtol=1e-5)
    np.testing.assert_allclose(permuted[1], advantages[:, order], rtol=1e-5, atol=1e-6)


def test_a_single_sample_is_trained_by_the_supervised_half_only():
    one = jnp.ones((2, 1), bool)
    for name, bound in JITTED.items():
        value, advantages = bound(jnp.array([[-3.0], [-4.0]]), one)
        expected = [-3.0, -4.0] if name in LOG_BOUNDS else np.exp([-3.0, -4.0])
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_array_equal(advantages, 0.0)


def test_underflowing_answers_keep_their_order():
    for bound in map(JITTED.get, LOG_BOUNDS):
        value, advantages = bound(jnp.array([[-900.0, -901.0, -2000.0]]), jnp.ones((1, 3), bool))
        assert np.isfinite(value).all() and np.isfinite(advantages).all()
        assert advantages[0, 0] > advantages[0, 1] > advantages[0, 2]


def test_probability_hand_values():
    """Samples of probability 0.1, 0.2 and 0.6: the others' means are 0.4, 0.35 and 0.15."""
    values = jnp.log(jnp.array([[0.1, 0.2, 0.6, 0.9]])).at[0, 3].set(jnp.nan)
    valid = jnp.array([[True, True, True, False]])
    value, advantages = JITTED["probability"](values, valid)
    np.testing.assert_allclose(value, [0.3], rtol=1e-6)
    np.testing.assert_allclose(advantages, [[-0.3, -0.15, 0.45, 0.0]], rtol=1e-5)
    gradient = jax.grad(lambda v: BOUNDS["probability"](v, valid)[0].sum())(values)
    np.testing.assert_allclose(gradient, [[0.1 / 3, 0.2 / 3, 0.2, 0.0]], rtol=1e-5)


def test_probability_is_the_mean_of_leave_one_out_with_exact_match():
    """Over all answers of two samples, p = 0.7 and 0.2: E[right_i - right_j] = p_i - p_j."""
    p = np.array([0.7, 0.2])
    expected = np.zeros(2)
    for right in itertools.product([0, 1], repeat=2):
        right = np.array(right)
        chance = np.prod(np.where(right, p, 1 - p))
        expected += chance * (right - right[::-1])
    _, advantages = JITTED["probability"](jnp.log(jnp.array([p])), jnp.ones((1, 2), bool))
    np.testing.assert_allclose(advantages[0], expected, rtol=1e-5)


def test_identical_chains_make_both_bounds_equal():
    same = jnp.broadcast_to(answers()[:, :1], (B, G))
    single, multi = (JITTED[name](same, ALL) for name in ("single_sample", "multi_sample"))
    np.testing.assert_allclose(single[0], multi[0], rtol=1e-6)
    np.testing.assert_array_equal(single[1], multi[1])


# A prompt with three chains of thought of one token and an answer of one token: every draw of n
# chains is enumerated, so expectations are exact.
COT, ANSWER = jnp.array([0.4, -0.3, 0.1]), jnp.array([-0.2, -2.5, -1.0])


def expectation(n, function):
    """Mean of `function(draw [n] i32)` over all draws of n chains from softmax(COT)."""
    draws = jnp.array(list(itertools.product(range(3), repeat=n)))
    probability = jnp.exp(jax.nn.log_softmax(COT)[draws].sum(-1))
    return jnp.tensordot(probability, jax.jit(jax.vmap(function))(draws), 1)


def score(draw, weights):
    """sum_i weights_i grad log pi(c_i) in the logits."""
    return jax.grad(lambda logits: weights @ jax.nn.log_softmax(logits)[draw])(COT)


def test_bounds_grow_with_the_number_of_samples():
    def bound(n):
        valid = jnp.ones((1, n), bool)
        return expectation(n, lambda d: JITTED["multi_sample"](ANSWER[d][None], valid)[0][0])

    log_marginal = jax.nn.logsumexp(jax.nn.log_softmax(COT) + ANSWER)
    values = [float(bound(n)) for n in (1, 2, 3)] + [float(log_marginal)]
    assert values == sorted(values) and values[-1] - values[-2] > 1e-3


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_baseline_keeps_the_mean_and_lowers_the_variance(bound):
    n = 3
    valid = jnp.ones((1, n), bool)

    def moments(with_baseline):
        def gradient(draw):
            value, advantages = JITTED[bound](ANSWER[draw][None], valid)
            own = {"single_sample": ANSWER[draw], "probability": jnp.exp(ANSWER[draw])}
            raw = own.get(bound, jnp.repeat(value, n))
            return score(draw, advantages[0] if with_baseline else raw)

        mean = expectation(n, gradient)
        return mean, expectation(n, lambda d: jnp.sum((gradient(d) - mean) ** 2))

    (plain, plain_variance), (with_it, variance) = moments(False), moments(True)
    np.testing.assert_allclose(with_it, plain, atol=1e-6)
    assert variance < 0.7 * plain_variance


def test_the_probability_is_estimated_without_bias_in_value_and_gradient():
    n = 2
    valid = jnp.ones((1, n), bool)

    def marginal(logits, answer):
        return jnp.exp(jax.nn.log_softmax(logits) + answer).sum()

    def halves(draw):
        value, advantages = JITTED["probability"](ANSWER[draw][None], valid)
        answer = jax.grad(lambda a: JITTED["probability"](a[draw][None], valid)[0][0])(ANSWER)
        return value[0], score(draw, advantages[0]) / n, answer

    value, cot, answer = (expectation(n, lambda d, i=i: halves(d)[i]) for i in range(3))
    np.testing.assert_allclose(value, marginal(COT, ANSWER), rtol=1e-6)
    expected = jax.grad(marginal, (0, 1))(COT, ANSWER)
    np.testing.assert_allclose(cot, expected[0], atol=1e-6)
    np.testing.assert_allclose(answer, expected[1], atol=1e-6)


@pytest.mark.parametrize("cost", [0.0, 0.7])
def test_with_a_cost_of_thoughts_the_gradient_is_that_of_the_temporal_bound(cost):
    """One line of RA3: E[l - c where a thought is written], by all draws; chain 0 writes none."""
    n = 2
    valid, thinks = jnp.ones((1, n), bool), jnp.arange(len(ANSWER)) > 0
    settings = dict(norm_scope="none", advantage_clip=1e6, bound=BOUNDS["single_sample"])

    def gradient(draw):
        told = dict(thinks=thinks[draw][None], thought_cost=cost)
        found = evidence_advantages(ANSWER[draw][None], valid, valid, **settings, **told)
        return score(draw, found.reasoning[0]) / n

    def bound(logits):
        return (jax.nn.softmax(logits) * (ANSWER - cost * thinks)).sum()

    np.testing.assert_allclose(expectation(n, gradient), jax.grad(bound)(COT), atol=1e-6)


def test_a_thought_pays_if_it_raises_the_likelihood_by_more_than_its_cost():
    values, valid = jnp.array([[-2.0, -1.8]]), jnp.ones((1, 2), bool)
    thinks = jnp.array([[False, True]])
    for cost, sign in ((0.05, 1), (0.2, 0), (0.3, -1)):
        told = dict(thinks=thinks, thought_cost=cost)
        found = evidence_advantages(values, valid, valid, bound=BOUNDS["single_sample"], **told)
        assert np.sign(np.round(found.reasoning[0, 1], 5)) == sign
    # A badly formatted sample costs nothing, and the format term knows no cost.
    bad = evidence_advantages(
        values, jnp.array([[True, False]]), valid, bound=BOUNDS["single_sample"], **told
    )
    assert not np.asarray(bad.reasoning).any() and np.asarray(bad.format).any()
