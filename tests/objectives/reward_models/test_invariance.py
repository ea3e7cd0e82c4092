"""Discrepancy of states between lengths: by hand, unbiased, and what it does to a reward model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.reward_models import bradley_terry, length_discrepancy
from rljax.objectives.reward_models.invariance import (
    BANDWIDTHS,
    discrepancies,
    length_bins,
    length_invariance,
    off_diagonal_kernel,
)


def kernel_of(a, b, width):
    squares = ((a - b) ** 2).sum()
    return sum(np.exp(-squares / (2 * (factor * width) ** 2)) for factor in BANDWIDTHS)


def mmd(a, b, width):
    """The unbiased estimate, pair by pair."""
    inside = [
        np.mean(
            [kernel_of(x, y, width) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]
        )
        for s in (a, b)
    ]
    return sum(inside) - 2 * np.mean([kernel_of(x, y, width) for x in a for y in b])


STATES = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
LENGTHS = np.array([[1, 9], [2, 8], [3, 7], [7, 1], [8, 2], [9, 2]])
USABLE = np.ones(6, bool)


@pytest.mark.parametrize("conditional", [True, False])
def test_the_term_by_hand(conditional):
    found = length_discrepancy(
        STATES, LENGTHS, USABLE, invariance_weight=0.5, invariance_bins=2, conditional=conditional
    )
    flat = STATES.reshape(-1, 3)
    apart = [np.linalg.norm(flat[i] - flat[j]) for i in range(12) for j in range(12) if i != j]
    width = np.median(apart)
    long = LENGTHS > np.median(LENGTHS)
    sets = [(STATES[:, s], long[:, s]) for s in range(2)] if conditional else [
        (flat, long.reshape(-1))
    ]  # fmt: skip
    expected = 0.5 * sum(mmd(states[which], states[~which], width) for states, which in sets)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_bins_are_quantiles_and_equal_lengths_share_one():
    there = jnp.ones(8, bool)
    assert length_bins(jnp.array([1, 2, 3, 4, 5, 6, 7, 8]), there, 4).tolist() == [
        *(0, 0, 1, 1, 2, 2, 3, 3)
    ]
    bins = length_bins(jnp.array([5, 5, 5, 5, 5, 1, 9, 5]), there, 4)
    assert len(set(bins[:5].tolist())) == 1
    # What is not there has no say.
    some = length_bins(jnp.array([1, 2, 3, 4, 900, 900, 900, 900]), jnp.arange(8) < 4, 2)
    assert some[:4].tolist() == [0, 0, 1, 1]


def test_two_halves_of_one_distribution_do_not_differ_on_average():
    """The biased estimate, with the diagonal, would be above 0 always."""

    def one(key):
        states = jax.random.normal(key, (24, 4))
        members = jax.nn.one_hot(jnp.arange(24) % 2, 2)
        return discrepancies(off_diagonal_kernel(states, jnp.ones(24, bool)), members)

    found = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(0), 400)))
    assert abs(found.mean()) < 4 * found.std() / 20 and found.min() < 0 < found.max()
    moved = jax.random.normal(jax.random.key(1), (24, 4)) + 2.0 * (np.arange(24) % 2)[:, None]
    members = jax.nn.one_hot(jnp.arange(24) % 2, 2)
    apart = discrepancies(off_diagonal_kernel(moved, jnp.ones(24, bool)), members)
    assert float(apart) > 5 * found.std()
    swapped = discrepancies(off_diagonal_kernel(moved, jnp.ones(24, bool)), members[:, ::-1])
    assert float(swapped) == pytest.approx(float(apart), rel=1e-6)


def test_what_is_too_few_or_not_usable_counts_nowhere():
    one_long = np.where(np.arange(12).reshape(6, 2) == 0, 9, 1)
    for lengths in (np.ones((6, 2), int), one_long):
        found = length_discrepancy(STATES, lengths, USABLE, invariance_bins=2, conditional=False)
        assert float(found) == 0.0
    usable = np.arange(6) < 4

    def term(states):
        options = dict(invariance_bins=2, conditional=False)
        return length_discrepancy(states, LENGTHS, usable, **options)

    other = np.where(usable[:, None, None], STATES, 50.0)
    assert float(term(other)) == pytest.approx(float(term(STATES)), rel=1e-5)
    slopes = jax.grad(term)(jnp.asarray(STATES))
    assert (np.abs(slopes).sum(axis=(1, 2)) > 0).tolist() == usable.tolist()


def test_expanded_around_the_states_it_has_their_value_and_gradient():
    weights = np.full(6, 1 / 6, np.float32)
    value, slopes = jax.value_and_grad(length_discrepancy)(jnp.asarray(STATES), LENGTHS, USABLE)

    def expanded(states):
        loss, _ = length_invariance(states, slopes * 6, jnp.full(6, value))
        return jnp.sum(weights * loss)

    found, gradient = jax.value_and_grad(expanded)(jnp.asarray(STATES))
    assert float(found) == pytest.approx(float(value), rel=1e-5)
    np.testing.assert_allclose(gradient, slopes, atol=1e-6)


def scored(weight, seed=0):
    """Trains a small network on pairs whose longer side wins too often, and judges it.

    Returns:
        Accuracy on held-out pairs whose shorter side is the better one.
    """
    draw = np.random.default_rng(seed)

    def pairs(count, longer):
        content = draw.normal(size=(count, 2, 4)).astype(np.float32)
        gold = content @ np.array([1.0, -1.0, 0.5, 0.5], np.float32)
        order = np.argsort(-gold, axis=1)[..., None]
        content = np.take_along_axis(content, order, axis=1)
        sizes = np.sort(draw.integers(10, 60, (count, 2)), axis=1)
        wins = draw.random(count) < longer
        sizes = np.where(wins[:, None], sizes[:, ::-1], sizes)
        column = (sizes[..., None] - 35) / 12
        return jnp.asarray(np.concatenate([content, column], -1), jnp.float32), sizes

    train, lengths = pairs(64, 0.95)
    test, _ = pairs(1000, 0.0)
    usable = jnp.ones(64, bool)
    draw_of = jax.random.normal(jax.random.key(seed), (5, 8)) * 0.3
    params = {"trunk": draw_of, "head": jnp.full(8, 0.3)}

    def score(params, inputs):
        states = jnp.tanh(inputs @ params["trunk"])
        return states, states @ params["head"]

    def loss(params):
        states, scores = score(params, train)
        found = bradley_terry(scores[:, 0], scores[:, 1])[0].mean()
        return found + length_discrepancy(
            states, lengths, usable, invariance_weight=weight, conditional=False
        )

    step = jax.jit(lambda p: jax.tree.map(lambda x, g: x - 0.5 * g, p, jax.grad(loss)(p)))
    for _ in range(120):
        params = step(params)
    _, scores = score(params, test)
    return float((scores[:, 0] > scores[:, 1]).mean())


def test_a_model_that_must_not_see_the_length_goes_by_what_is_said():
    """Trained where the longer side wins in 95 % of the pairs, asked where the shorter one does."""
    vanilla, invariant = scored(0.0), scored(3.0)
    assert vanilla < 0.85 and invariant > (1 + vanilla) / 2
