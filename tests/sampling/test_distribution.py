"""Temperature and truncation against a plain loop, with hand values for ties and for the order."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.sampling.distribution import TokenFilter, entropy, kept_tokens, log_distribution, take

FILTERS = [
    dict(zip(("temperature", "top_k", "top_p", "min_p"), values, strict=True))
    for values in itertools.product((1.0, 0.6), (0, 3, 100), (1.0, 0.7), (0.0, 0.15))
]


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def reference_probabilities(logits, temperature, top_k, top_p, min_p):
    """[V] float64 -> [V]: each truncation works on the renormalised result of the one before."""
    probabilities = softmax(np.asarray(logits, np.float64) / temperature)
    if 0 < top_k < len(logits):
        kth = np.sort(probabilities)[-top_k]
        probabilities = np.where(probabilities >= kth, probabilities, 0)
        probabilities /= probabilities.sum()
    if top_p < 1:
        mass = 0.0
        for smallest in np.sort(probabilities)[::-1]:
            mass += smallest
            if mass >= top_p:
                break
        probabilities = np.where(probabilities >= smallest, probabilities, 0)
        probabilities /= probabilities.sum()
    if min_p > 0:
        probabilities = np.where(
            probabilities >= min_p * probabilities.max() * (1 - 1e-9), probabilities, 0
        )
        probabilities /= probabilities.sum()
    return probabilities


@pytest.mark.parametrize("fields", FILTERS, ids=str)
def test_distribution_equals_a_plain_loop_with_and_without_ties(fields):
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(20, 9)) * 2
    tied = rng.integers(-2, 2, size=(20, 9)).astype(float)
    logits = np.concatenate([smooth, tied])
    expected = np.stack([reference_probabilities(row, **fields) for row in logits])
    found = np.exp(log_distribution(jnp.asarray(logits, jnp.float32), TokenFilter(**fields)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)  # excluded: exactly zero
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "probabilities, fields, kept",
    [
        ([0.5, 0.3, 0.2], dict(), [1, 1, 1]),
        ([0.5, 0.3, 0.2], dict(top_k=2), [1, 1, 0]),
        ([0.5, 0.3, 0.2], dict(top_k=3), [1, 1, 1]),
        ([0.5, 0.3, 0.2], dict(top_k=99), [1, 1, 1]),
        ([0.4, 0.2, 0.2, 0.2], dict(top_k=2), [1, 1, 1, 1]),  # ties with the k-th stay
        ([0.2, 0.5, 0.3], dict(top_p=0.45), [0, 1, 0]),
        ([0.2, 0.5, 0.3], dict(top_p=0.6), [0, 1, 1]),  # the token that reaches p is kept
        ([0.2, 0.5, 0.3], dict(top_p=1e-9), [0, 1, 0]),  # never empty
        ([0.3, 0.3, 0.4], dict(top_p=0.5), [1, 1, 1]),  # ties with the last one stay
        ([0.5, 0.3, 0.2], dict(min_p=0.5), [1, 1, 0]),
        ([0.5, 0.3, 0.2], dict(min_p=0.99), [1, 0, 0]),
        # Order: after top_k=2 the masses are 0.625 and 0.375, so 0.6 is reached by one token.
        ([0.5, 0.3, 0.2], dict(top_p=0.6), [1, 1, 0]),
        ([0.5, 0.3, 0.2], dict(top_k=2, top_p=0.6), [1, 0, 0]),
        # Order: temperature comes first; 0.5 squares and renormalises to 0.66, 0.24, 0.11.
        ([0.5, 0.3, 0.2], dict(temperature=0.5, top_p=0.6), [1, 0, 0]),
    ],
)
def test_kept_tokens_by_hand(probabilities, fields, kept):
    token_filter = TokenFilter(**fields)
    logits = jnp.log(jnp.array(probabilities)) / token_filter.temperature
    np.testing.assert_array_equal(kept_tokens(logits, token_filter), np.array(kept, bool))


def test_logits_may_be_shifted_by_any_constant():
    logits = jax.random.normal(jax.random.key(0), (6, 9)) * 3
    token_filter = TokenFilter(temperature=0.7, top_k=5, top_p=0.8, min_p=0.05)
    expected = jnp.exp(log_distribution(logits, token_filter))
    for shift in (-50.0, 200.0):
        np.testing.assert_allclose(
            jnp.exp(log_distribution(logits + shift, token_filter)), expected, atol=1e-5
        )


@pytest.mark.parametrize(
    "fields",
    [dict(), dict(temperature=0.5), dict(top_k=2), dict(top_p=0.5), dict(min_p=0.3)],
    ids=str,
)
def test_entropy_and_its_gradient_are_those_of_the_kept_tokens(fields):
    logits = jnp.array([2.0, -1.0, 0.5, 0.0, -30.0])
    token_filter = TokenFilter(**fields)

    def truncated_entropy(logits):
        return entropy(log_distribution(logits, token_filter))

    kept = np.flatnonzero(kept_tokens(logits / token_filter.temperature, token_filter))

    def entropy_of_kept(logits):
        log_p = jax.nn.log_softmax(logits[kept] / token_filter.temperature)
        return -jnp.sum(jnp.exp(log_p) * log_p)

    found, expected = (jax.value_and_grad(f)(logits) for f in (truncated_entropy, entropy_of_kept))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)


def test_gradient_of_a_kept_token_ignores_the_excluded_ones():
    logits = jnp.array([2.0, 1.0, 0.0, -1.0])
    token_filter = TokenFilter(top_k=2)
    gradient = jax.grad(lambda x: log_distribution(x, token_filter)[0])(logits)
    second = 1 / (1 + np.e)
    np.testing.assert_allclose(gradient, [second, -second, 0, 0], atol=1e-6)


def test_token_that_left_the_truncated_set_keeps_a_finite_logprob_and_gradient():
    logits = jnp.array([[2.0, 1.0, 0.0, -1.0]])
    taken = jnp.array([3])
    token_filter = TokenFilter(top_k=2)

    def logprob(logits):
        return take(log_distribution(logits, token_filter, taken=taken), taken)[0]

    value, gradient = jax.value_and_grad(logprob)(logits)
    # It joins the two kept ones: softmax over 2, 1 and -1.
    expected = jax.nn.log_softmax(jnp.array([2.0, 1.0, -1.0]))
    np.testing.assert_allclose(value, expected[2], rtol=1e-6)
    p = np.exp(expected)
    np.testing.assert_allclose(gradient[0], [-p[0], -p[1], 0, 1 - p[2]], atol=1e-6)


def test_taken_token_inside_the_set_changes_nothing():
    logits = jax.random.normal(jax.random.key(1), (5, 8))
    token_filter = TokenFilter(top_k=3)
    best = logits.argmax(axis=-1)
    np.testing.assert_array_equal(
        log_distribution(logits, token_filter, taken=best), log_distribution(logits, token_filter)
    )


def test_bfloat16_logits_are_normalised_in_float32():
    logits = jax.random.normal(jax.random.key(1), (5, 300)).astype(jnp.bfloat16)
    found = log_distribution(logits, TokenFilter(top_p=0.9))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(found).sum(axis=-1), 1, atol=1e-6)


def test_greedy_filter_has_no_density():
    with pytest.raises(ValueError, match="temperature 0"):
        log_distribution(jnp.zeros((1, 3)), TokenFilter(temperature=0.0))


@pytest.mark.parametrize(
    "field, value",
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.0),
    ],
)
def test_bad_filter_field_is_named(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*got {value}.*sampling.{field}"):
        TokenFilter(**{field: value})
