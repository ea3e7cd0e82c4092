"""Rewards at thresholds: GAE by component, mixing, the multipliers' step, the critic's heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.component_gae import (
    component_advantages,
    component_critic_loss,
    component_returns,
    component_rewards,
    rewards_to_go,
)
from rljax.objectives.credit.gae import gae
from rljax.objectives.multipliers import (
    first_multipliers,
    mixed_components,
    mixing_weights,
    move_multipliers,
    multiplier_loss,
)

MASK = np.array([[True, True, False], [True, True, True]])
COMPONENTS = np.float32([[1.0, 10.0], [0.0, -20.0]])
KL = np.float32([[-0.1, 0.2, 99.0], [0.0, -0.3, 0.1]])
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(2, 3, 3)).astype(np.float32)
KINDS = ("at_least", "equal")


def advantages(**fields):
    rewards = component_rewards(COMPONENTS, KL, MASK)
    return np.asarray(component_advantages(rewards, VALUES, MASK, **fields))


def test_the_kl_is_a_reward_of_tokens_and_the_others_are_of_the_end():
    found = np.asarray(component_rewards(COMPONENTS, KL, MASK))
    np.testing.assert_array_equal(found[..., 0], np.where(MASK, KL, 0))
    np.testing.assert_array_equal(found[..., 1], [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found[..., 2], [[0, 10, 0], [0, 0, -20]])
    onward = np.asarray(rewards_to_go(found, MASK, gamma=0.5))
    np.testing.assert_allclose(onward[..., 1], [[5, 10, 0], [-5, -10, -20]])


def test_each_component_has_the_gae_of_its_own_values():
    found, rewards = advantages(gamma=0.9, gae_lambda=0.7), component_rewards(COMPONENTS, KL, MASK)
    for place in range(3):
        own = gae(
            *(rewards[..., place], VALUES[..., place], MASK, np.ones(2, bool)),
            **dict(gamma=0.9, gae_lambda=0.7, whiten_advantages=False),
        )
        np.testing.assert_allclose(found[..., place], own, atol=1e-6)
    told, learnt = component_returns(found, VALUES, MASK)
    np.testing.assert_allclose(told[MASK], (found + VALUES)[MASK], atol=1e-6)
    assert not np.asarray(told)[~MASK].any() and (learnt == MASK).all()


def by_hand(found, weights):
    own = found[MASK]
    own = (own - own.mean(axis=0)) / own.std(axis=0, ddof=1)
    return own @ np.concatenate([[len(weights) - weights.sum()], weights])


@pytest.mark.parametrize(
    "kind, squash", [("at_least", lambda x: 1 / (1 + np.exp(-x))), ("equal", np.tanh)]
)
def test_components_are_normalised_before_they_are_mixed(kind, squash):
    raw, found = np.float32([0.4, -1.2]), advantages()
    mixed = np.asarray(mixed_components(found, raw, MASK, threshold_kind=kind))
    np.testing.assert_allclose(mixed[MASK], by_hand(found, squash(raw)), atol=1e-5)
    assert not mixed[~MASK].any()
    # The scale of a reward does not change its say.
    wide = np.where(np.arange(3) == 2, 1000 * found, found)
    again = mixed_components(wide, raw, MASK, threshold_kind=kind)
    np.testing.assert_allclose(again, mixed, atol=1e-4)


def test_weights_of_1_leave_no_kl_and_weights_of_0_nothing_else():
    found = advantages()
    ones = mixed_components(found, np.float32([60, 60]), MASK)
    np.testing.assert_allclose(np.asarray(ones)[MASK], by_hand(found, np.ones(2)), atol=1e-5)
    other = np.where(np.arange(3) == 0, -found, found)
    moved = mixed_components(other, np.float32([60, 60]), MASK)
    np.testing.assert_allclose(moved, ones, atol=1e-6)
    zeros = mixed_components(found, np.float32([0, 0]), MASK, threshold_kind="equal")
    of_kl = mixed_components(found[..., :1], np.zeros(0, np.float32), MASK)  # no reward: 0 times it
    assert not np.asarray(of_kl).any()
    own = found[..., 0][MASK]
    expected = 2 * (own - own.mean()) / own.std(ddof=1)
    np.testing.assert_allclose(np.asarray(zeros)[MASK], expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_above_its_threshold_loses_weight_and_one_below_gains(kind):
    raw, onward = np.float32([0.3, 0.3]), np.zeros((2, 3, 2), np.float32)
    onward[...] = [0.9, 0.1]
    new, _ = move_multipliers(
        raw, np.zeros(2), onward, MASK, thresholds=(0.5, 0.5), threshold_kind=kind
    )
    before, after = (mixing_weights(x, threshold_kind=kind) for x in (jnp.asarray(raw), new))
    assert after[0] < before[0] and after[1] > before[1]
    low, high = (0, 1) if kind == "at_least" else (-1, 1)
    far = np.asarray(mixing_weights(jnp.float32([-5, 5]), threshold_kind=kind))
    assert (far > low).all() and (far < high).all()


def test_a_step_is_that_of_sgd_with_momentum_on_the_mean_over_tokens():
    raw, momentum = np.float32([0.2, -0.5]), np.float32([0.03, -0.01])
    onward = RNG.normal(size=(2, 3, 2)).astype(np.float32)
    reached, slope = onward[MASK].mean(axis=0), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2
    gradient = slope(raw) * (reached - [0.1, 0.4])
    fields = dict(thresholds=(0.1, 0.4), multiplier_rate=0.3, multiplier_decay=0.6)
    new, kept = move_multipliers(raw, momentum, onward, MASK, **fields)
    np.testing.assert_allclose(kept, 0.6 * momentum + gradient, atol=1e-6)
    np.testing.assert_allclose(new, raw - 0.3 * np.asarray(kept), atol=1e-6)
    _, kept = move_multipliers(raw, 0 * momentum, onward, MASK, **fields, multiplier_clip=1e-3)
    np.testing.assert_allclose(kept, gradient * 1e-3 / np.linalg.norm(gradient), atol=1e-7)
    still = move_multipliers(raw, momentum, onward, np.zeros_like(MASK), **fields)
    np.testing.assert_array_equal(still, (raw, momentum))


def test_neither_sees_the_gradient_of_the_other():
    found, raw = jnp.asarray(advantages()), jnp.float32([0.4, -1.2])
    slopes = jax.grad(lambda *x: mixed_components(*x, MASK).sum(), argnums=(0, 1))(found, raw)
    assert not any(np.asarray(x).any() for x in slopes)
    reached, thresholds = jnp.float32([1, 2]), jnp.zeros(2)
    assert not np.asarray(jax.grad(multiplier_loss, argnums=1)(raw, reached, thresholds)).any()


def test_every_head_learns_its_own_target_by_its_weight():
    target = RNG.normal(size=(2, 3, 3)).astype(np.float32)
    new = VALUES + np.float32(0.3)

    def loss(values, **fields):
        return component_critic_loss(values, VALUES, target, MASK, **fields)

    per_token, metrics = loss(new)
    square = (new - target) ** 2
    np.testing.assert_allclose(np.asarray(per_token)[MASK], (square @ [0.2, 0.5, 0.5])[MASK], 1e-5)
    assert not np.asarray(per_token)[~MASK].any()
    assert float(metrics["value_error"].mean()) == pytest.approx(square[MASK].mean(), rel=1e-5)
    # The clip holds the value, and there is no maximum that brings its gradient back.
    slopes = jax.grad(lambda x: loss(x, component_value_clip=0.1)[0].sum())(new)
    assert not np.asarray(slopes).any()
    clipped = loss(new, component_value_clip=0.1)[0]
    near = ((VALUES + np.float32(0.1) - target) ** 2) @ [0.2, 0.5, 0.5]
    np.testing.assert_allclose(np.asarray(clipped)[MASK], near[MASK], 1e-4)


def test_multipliers_begin_near_0_and_the_same_in_every_run():
    first = np.asarray(first_multipliers(4))
    assert (first != 0).all() and np.abs(first).max() < 0.05
    np.testing.assert_array_equal(first, first_multipliers(4))


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("threshold_kind", "at_most", "one of at_least, equal"),
        ("multiplier_rate", -1.0, ">= 0"),
        ("multiplier_decay", 1.0, r"in \[0, 1\)"),
        ("multiplier_clip", 0.0, "> 0, or None"),
    ],
)
def test_fields_are_checked(field, value, words):
    onward = np.zeros((2, 3, 2), np.float32)
    fields = dict(thresholds=(0.0, 0.0)) | {field: value}
    with pytest.raises(ValueError, match=f"{field} is {value!r}; it must be {words}"):
        move_multipliers(jnp.zeros(2), jnp.zeros(2), onward, MASK, **fields)
