"""GAE: its limits, holes and padding, and rows that were cut off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.gae import (
    gae,
    gae_length_adaptive,
    generalized_advantages,
    length_adaptive_lambda,
)
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.ratios import token
from rljax.objectives.surrogates import clipped

RNG = np.random.default_rng(0)
VALUES, REWARDS = (jnp.asarray(RNG.normal(size=(4, 6)), jnp.float32) for _ in range(2))
# Full, padded, with a hole, empty.
MASK = jnp.array(
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]], bool
)
FINISHED = jnp.array([True, False, True, True])
RAW = dict(whiten_advantages=False)


def reference(rewards, values, last_value, gamma, lam):
    """The sum of discounted TD errors of one row without holes, in float64."""
    rewards, values = np.asarray(rewards, float), np.append(np.asarray(values, float), last_value)
    delta = rewards + gamma * values[1:] - values[:-1]
    steps = range(len(rewards))
    return [sum((gamma * lam) ** (i - t) * delta[i] for i in steps if i >= t) for t in steps]


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.9, 1.0)])
@pytest.mark.parametrize("truncation", ["terminal", "hold"])
def test_every_row_is_the_sum_of_its_td_errors_on_true_slots(gamma, lam, truncation):
    got = gae(
        REWARDS,
        VALUES,
        MASK,
        FINISHED,
        gamma=gamma,
        gae_lambda=lam,
        truncation=truncation,
        **RAW,
    )
    for row in range(4):
        slots = np.flatnonzero(MASK[row])
        held = truncation == "hold" and not FINISHED[row]
        last = VALUES[row, slots[-1]] if held else 0.0
        expected = reference(REWARDS[row, slots], VALUES[row, slots], last, gamma, lam)
        np.testing.assert_allclose(got[row, slots], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[~MASK], 0.0)


def test_limits_in_lambda():
    rewards, values = np.where(MASK, REWARDS, 0.0), np.where(MASK, VALUES, 0.0)
    to_go = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    one = gae(REWARDS, VALUES, MASK, FINISHED, gae_lambda=1.0, **RAW)
    np.testing.assert_allclose(one[MASK], (to_go - values)[MASK], rtol=1e-5, atol=1e-6)
    critic_less = gae(REWARDS, 0 * VALUES, MASK, FINISHED, gae_lambda=1.0, **RAW)
    np.testing.assert_allclose(critic_less[MASK], to_go[MASK], rtol=1e-5, atol=1e-6)
    zero = gae(REWARDS, VALUES, MASK, FINISHED, gae_lambda=0.0, gamma=0.9, **RAW)
    following = np.append(VALUES[0, 1:], 0.0)
    expected = REWARDS[0] + 0.9 * following - VALUES[0]
    np.testing.assert_allclose(zero[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
def test_padding_order_of_rows_and_junk_change_nothing(whiten):
    expected = gae(REWARDS, VALUES, MASK, FINISHED, whiten_advantages=whiten)
    order = jnp.array([2, 0, 3, 1])
    shuffled = gae(
        REWARDS[order], VALUES[order], MASK[order], FINISHED[order], whiten_advantages=whiten
    )
    np.testing.assert_allclose(shuffled, expected[order], rtol=1e-5, atol=1e-6)

    def pad(x, fill):
        return jnp.pad(x, ((0, 0), (2, 3)), constant_values=fill)

    junk = [jnp.where(MASK, x, jnp.nan) for x in (REWARDS, VALUES)]
    padded = gae(
        *(pad(x, jnp.inf) for x in junk), pad(MASK, False), FINISHED, whiten_advantages=whiten
    )
    np.testing.assert_allclose(padded[:, 2:-3], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(padded[:, -3:], 0.0)


def test_a_row_without_its_hole_has_the_same_advantages():
    slots = jnp.flatnonzero(MASK[2])
    compact = gae(REWARDS[2:3, slots], VALUES[2:3, slots], MASK[2:3, slots], FINISHED[2:3], **RAW)
    whole = gae(REWARDS, VALUES, MASK, FINISHED, **RAW)
    np.testing.assert_allclose(whole[2, slots], compact[0], rtol=1e-6)


def test_a_constant_in_the_critic_shifts_raw_and_leaves_whitened_advantages():
    raw, moved = (
        gae(REWARDS, v, MASK, FINISHED, gae_lambda=1.0, **RAW) for v in (VALUES, VALUES + 2.0)
    )
    np.testing.assert_allclose((moved - raw)[MASK], -2.0, rtol=1e-5)
    raw, moved = (gae(REWARDS, v, MASK, FINISHED, gae_lambda=1.0) for v in (VALUES, VALUES + 2.0))
    np.testing.assert_allclose(moved, raw, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([raw[MASK].mean(), raw[MASK].std(ddof=1)], [0, 1], atol=1e-5)


def test_egae_of_rows_that_were_cut_off():
    """T-PPO: no signal from one token, V(last) - V(t) for lambda 1, GAE where all have ended."""
    one_token = jnp.array([[True, False, False, False, False, False]] * 4)
    nothing = gae(0 * REWARDS, VALUES, one_token, ~FINISHED, truncation="hold", **RAW)
    np.testing.assert_array_equal(nothing[jnp.array([0, 2, 3])], 0.0)
    np.testing.assert_allclose(nothing[1, 0], -VALUES[1, 0])
    sums = gae(0 * REWARDS, VALUES, MASK, FINISHED, gae_lambda=1.0, truncation="hold", **RAW)
    np.testing.assert_allclose(sums[1, :3], VALUES[1, 2] - VALUES[1, :3], rtol=1e-5, atol=1e-6)
    everything = jnp.ones(4, bool)
    hold, drop, plain = (
        gae(REWARDS, VALUES, MASK, everything, truncation=option)
        for option in ("hold", "drop", "terminal")
    )
    np.testing.assert_array_equal(hold, plain)
    np.testing.assert_array_equal(drop, plain)


def test_dropped_rows_get_nothing_and_enter_no_statistic():
    got = gae(REWARDS, VALUES, MASK, FINISHED, truncation="drop")
    np.testing.assert_array_equal(got[1], 0.0)
    kept = jnp.array([0, 2])
    alone = gae(REWARDS[kept], VALUES[kept], MASK[kept], FINISHED[kept])
    np.testing.assert_allclose(got[kept], alone, rtol=1e-5, atol=1e-6)


def test_length_adaptive_lambda():
    lengths = jnp.array([0, 1, 20, 40, 1000])
    got = length_adaptive_lambda(lengths)
    np.testing.assert_allclose(got, [0.0, 0.0, 0.0, 0.5, 0.98], atol=1e-6)
    # The weights lambda^t of an endless sum add up to alpha * l.
    np.testing.assert_allclose(1 / (1 - got[3:]), 0.05 * lengths[3:], rtol=1e-4)
    adaptive = gae_length_adaptive(REWARDS, VALUES, MASK, FINISHED, length_alpha=0.5, **RAW)
    for row, length in ((0, 6), (1, 3), (2, 3)):
        fixed = gae(REWARDS, VALUES, MASK, FINISHED, gae_lambda=1 - 1 / (0.5 * length), **RAW)
        np.testing.assert_allclose(adaptive[row], fixed[row], rtol=1e-5, atol=1e-6)


def test_advantages_are_constants_and_fields_may_be_traced():
    gradient = jax.grad(lambda r, v: gae(r, v, MASK, FINISHED).sum(), (0, 1))(REWARDS, VALUES)
    np.testing.assert_array_equal(gradient[0], 0.0)
    np.testing.assert_array_equal(gradient[1], 0.0)
    lambdas = jnp.array([0.0, 0.95])
    many = jax.jit(
        jax.vmap(lambda lam: gae(REWARDS, VALUES, MASK, FINISHED, gae_lambda=lam, gamma=lam))
    )(lambdas)
    for lam, got in zip((0.0, 0.95), many, strict=True):
        expected = gae(REWARDS, VALUES, MASK, FINISHED, gae_lambda=lam, gamma=lam)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_integer_rewards_are_not_cut_to_integers():
    ones = jnp.ones((1, 2), bool)
    got = generalized_advantages(jnp.array([[0, 1]]), jnp.array([[0.3, 0.3]]), ones)
    np.testing.assert_allclose(got, [[0.95 * 0.7, 0.7]], rtol=1e-6)


def test_policy_gradient_at_the_old_policy_is_the_advantage():
    advantages = gae(REWARDS, VALUES, MASK, FINISHED)
    n = MASK.sum()

    def loss(logprobs):
        arrays = dict(logprobs=logprobs, old_logprobs=VALUES, advantages=advantages, mask=MASK)
        return policy_gradient_loss(arrays, ratio=token, surrogate=clipped)[0].sum() / n

    np.testing.assert_allclose(jax.grad(loss)(VALUES), -advantages / n, rtol=1e-5)


@pytest.mark.parametrize(
    "part, field",
    [
        (gae, dict(gamma=1.1)),
        (gae, dict(gae_lambda=-0.1)),
        (gae, dict(truncation="cut")),
        (gae, dict(whiten_epsilon=-1.0)),
        (gae_length_adaptive, dict(length_alpha=0.0)),
        (gae_length_adaptive, dict(truncation="bootstrap")),
    ],
)
def test_impossible_fields_are_errors(part, field):
    ((name, value),) = field.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        part(REWARDS, VALUES, MASK, FINISHED, **field)
