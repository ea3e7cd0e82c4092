"""Bounds from draws of masks, and the surrogates on them: properties that the papers state."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages.softmax import group_softmax
from rljax.objectives.bounds import (
    lower_per_token,
    lower_shares,
    sequence_bounds,
    upper_per_token,
)
from rljax.objectives.kl import k2_sequence
from rljax.objectives.surrogates.likelihood_bounds import boundary, sandwich

ROWS, SLOTS, DRAWS = 4, 5, 3


@pytest.fixture(scope="module")
def given():
    """Log-probabilities and weights of draws that hide about half; the last row has two tokens."""
    rng = np.random.default_rng(0)
    shape = (ROWS, SLOTS, DRAWS)
    mask = np.arange(SLOTS) < np.array([5, 5, 4, 2])[:, None]
    hidden = (rng.random(shape) < 0.6) & mask[..., None]
    hidden[:, 0] = True
    weights = hidden * (mask.sum(axis=1)[:, None, None] / hidden.sum(axis=1, keepdims=True))
    return tuple(map(jnp.asarray, (-rng.exponential(size=shape), weights, mask)))


def test_one_draw_makes_both_bounds_the_same_up_to_a_constant(given):
    """M = 1: upper = lower - log(share of hidden tokens) / beta, with the same gradient."""
    logprobs, weights, mask = given
    logprobs, weights = logprobs[..., :1], weights[..., :1]
    share = (weights > 0).sum(axis=(1, 2)) / mask.sum(axis=1)
    lower, upper = lower_per_token(logprobs, weights, mask), None
    upper = upper_per_token(logprobs, weights, mask, power=1.5)
    np.testing.assert_allclose(upper, lower - np.log(share) / 1.5, rtol=1e-5)
    gradients = [
        jax.grad(lambda x, bound=bound: bound(x, weights, mask).sum())(logprobs)
        for bound in (lower_per_token, lambda *a: upper_per_token(*a, power=1.5))
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)


def test_equal_draws_say_what_one_of_them_says(given):
    logprobs, weights, mask = given
    for bound in (lower_per_token, lambda *a: upper_per_token(*a, power=2.0)):
        one = bound(logprobs[..., :1], weights[..., :1], mask)
        same = [jnp.repeat(x[..., :1], 4, axis=-1) for x in (logprobs, weights)]
        np.testing.assert_allclose(bound(*same, mask), one, rtol=1e-5)


def test_the_upper_bound_pushes_sure_draws_hardest(given):
    """d upper / d lp = softmax over the draws of beta lp + log w, over the hidden tokens."""
    logprobs, weights, mask = given
    gradient = jax.grad(lambda x: upper_per_token(x, weights, mask, power=1.5).sum())(logprobs)
    counted = np.asarray(weights) > 0
    powers = np.where(counted, np.exp(1.5 * np.asarray(logprobs)) * np.asarray(weights), 0)
    share = powers / np.maximum(powers.sum(axis=-1, keepdims=True), 1e-30)
    tokens = counted.any(axis=-1).sum(axis=1)[:, None, None]
    np.testing.assert_allclose(gradient, share / tokens, rtol=1e-5)


def test_sums_of_shares_and_of_draws_are_the_bound(given):
    logprobs, weights, mask = given
    shares = jnp.where(mask, lower_shares(logprobs, weights), 0).sum(axis=1)
    whole = sequence_bounds(logprobs, weights, mask)
    assert whole.shape == (ROWS, DRAWS)
    np.testing.assert_allclose(shares, whole.mean(axis=1), rtol=1e-5)
    per_token = lower_per_token(logprobs, weights, mask) * mask.sum(axis=1)
    np.testing.assert_allclose(shares, per_token, rtol=1e-5)


def test_nothing_outside_the_completion_counts(given):
    """Garbage behind the end reaches neither value nor gradient, nan included."""
    logprobs, weights, mask = given
    advantages = jnp.where(mask, jnp.array([1.0, -1.0, 0.5, -0.5])[:, None], 0.0)
    spoiled = jnp.where(mask[..., None], logprobs, jnp.nan)

    def loss(x, surrogate):
        return surrogate(x, weights, *rest(surrogate), advantages, mask)[0].sum()

    def rest(surrogate):
        return (logprobs,) if surrogate is boundary else ()

    for surrogate in (sandwich, boundary):
        found = jax.value_and_grad(loss)(logprobs, surrogate)
        other = jax.value_and_grad(loss)(spoiled, surrogate)
        np.testing.assert_allclose(found[0], other[0], rtol=1e-6)
        np.testing.assert_allclose(found[1], other[1], rtol=1e-6)


@pytest.mark.parametrize("negative", ["mixture", "upper", "lower", "none"])
def test_the_sandwich_of_a_group_without_signal_is_still(given, negative):
    logprobs, weights, mask = given
    none = jnp.zeros(mask.shape)

    def loss(x):
        return sandwich(x, weights, none, mask, negative_bound=negative)[0].sum()

    value, gradient = jax.value_and_grad(loss)(logprobs)
    assert value == 0 and not gradient.any()


def test_mixtures_at_their_ends_are_the_bounds(given):
    logprobs, weights, mask = given
    advantages = jnp.where(mask, -1.0, 0.0)

    def loss(**fields):
        return sandwich(logprobs, weights, advantages, mask, **fields)[0]

    for weight, name in ((0.0, "lower"), (1.0, "upper")):
        np.testing.assert_allclose(loss(upper_weight=weight), loss(negative_bound=name), rtol=1e-6)
    # Draws and samples may come in any order.
    order = jnp.array([2, 0, 1])
    other = sandwich(logprobs[..., order], weights[..., order], advantages, mask)[0]
    np.testing.assert_allclose(other, loss(), rtol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_boundary_is_below_what_it_bounds_and_touches_it(given, sign):
    """-loss <= exp(mean d) A, equal in value and gradient where the policy has not moved."""
    logprobs, weights, mask = given
    advantages = jnp.where(mask, sign * 0.7, 0.0)
    moved = logprobs + jnp.asarray(np.random.default_rng(1).normal(0, 0.2, logprobs.shape))

    def objective(x, terms, old=logprobs):
        each = boundary(x, weights, old, advantages, mask, boundary_terms=terms)[0]
        return -each[:, 0].sum(), each

    bound, exact = (objective(moved, terms)[1][:, 0] for terms in ("both", "exact"))
    assert (-bound < -exact).all()
    grads = [
        jax.grad(lambda x, t=t: objective(x, t)[0])(logprobs) for t in ("both", "exact", "linear")
    ]
    np.testing.assert_allclose(grads[0], grads[1], rtol=1e-5)
    np.testing.assert_allclose(grads[0], grads[2], rtol=1e-5)
    # One draw and a negative advantage: the exponential is the objective itself.
    if sign < 0:
        one = [x[..., :1] for x in (moved, weights, logprobs)]
        both, exactly = (
            boundary(one[0], one[1], one[2], advantages, mask, boundary_terms=t)[0]
            for t in ("both", "exact")
        )
        np.testing.assert_allclose(both, exactly, rtol=1e-6)


def test_weights_of_a_group_by_hand():
    """Scores 1, 0, 0: softmax(A) - softmax(-A), times three; equal scores give nothing."""
    rewards = jnp.zeros((5, 2)).at[0, 0].set(1.0)
    mask, groups = jnp.ones((5, 2), bool), jnp.array([0, 0, 0, 1, 1])
    found = group_softmax(rewards, mask, groups)
    good, bad = np.exp([2 / 3, -1 / 3, -1 / 3]), np.exp([-2 / 3, 1 / 3, 1 / 3])
    expected = 3 * (good / good.sum() - bad / bad.sum())
    np.testing.assert_allclose(found[:3, 0], expected, rtol=1e-5)
    assert not found[3:].any()


def test_a_squared_kl_of_rows_by_hand():
    """Differences 1 and 2 over two tokens: 3^2 / 2 / 2 on both of them."""
    mask = jnp.array([[True, True, False]])
    found = k2_sequence(jnp.array([[1.0, 2.0, 9.0]]), jnp.zeros((1, 3)), mask)
    assert found.tolist() == [[2.25, 2.25, 0.0]]


def negative_trace(tables, power, weight, tokens, vocab, steps=10, length=0.3):
    """Change of the exact log-likelihood after steps that lower a surrogate (SPG, section 6)."""
    sets = [s for k in range(1, tokens + 1) for s in itertools.combinations(range(tokens), k)]
    places = [(place, s) for s in sets for place in s]
    index = {found: number for number, found in enumerate(places)}
    weights = np.zeros((1, tokens, len(sets)))
    for number, hidden in enumerate(sets):
        same = [s for s in sets if len(s) == len(hidden)]
        for place in hidden:
            weights[0, place, number] = len(sets) / len(same) / len(hidden)
    mask = jnp.ones((1, tokens), bool)
    picks = np.array([[index.get((p, s), 0) for s in sets] for p in range(tokens)])

    def logprobs(logits):  # [places, vocabulary], the right token is 0
        return jax.nn.log_softmax(logits)[:, 0]

    def surrogate(logits):
        drawn = logprobs(logits)[picks][None]
        lower = lower_per_token(drawn, weights, mask)[0]
        return weight * upper_per_token(drawn, weights, mask, power=power)[0] + (1 - weight) * lower

    def exact(logits):
        known = logprobs(logits)
        orders = itertools.permutations(range(tokens))
        sums = [
            sum(known[index[p, tuple(sorted(order[i:]))]] for i, p in enumerate(order))
            for order in orders
        ]
        return jax.nn.logsumexp(jnp.stack(sums))

    def change(logits):
        moved = logits
        for _ in range(steps):
            gradient = jax.grad(surrogate)(moved)
            moved = moved - length * gradient / jnp.linalg.norm(gradient)
        return exact(moved) - exact(logits)

    return np.asarray(jax.jit(jax.vmap(change))(tables[:, : len(places), :vocab]))


def test_lowering_an_upper_bound_lowers_the_likelihood_more():
    """The claim of SPG, on 60 random tables of two tokens: figures of its sheet are 3.2 and 2.6."""
    tables = jnp.asarray(np.random.default_rng(0).normal(0, 2, (60, 4, 4)))
    lower = negative_trace(tables, 1.0, 0.0, tokens=2, vocab=4)
    upper = negative_trace(tables, 1.0, 1.0, tokens=2, vocab=4)
    mixed = negative_trace(tables, 1.0, 0.5, tokens=2, vocab=4)
    assert upper.mean() < lower.mean() - 0.3 and mixed.mean() < lower.mean() - 0.3
    assert (mixed < lower).mean() >= 0.8 and (upper < lower).mean() >= 0.7
