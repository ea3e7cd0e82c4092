import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages import (
    ADVANTAGES,
    BASELINE_UPDATES,
    NEEDS_GROUPS,
    update_ema_baseline,
)
from rljax.objectives.advantages.groups import share_without_signal

# Two groups in mixed order with ids that are no 0 .. n-1: scores 1, 3, 5 and 2, 4.
GROUPS = jnp.array([7, -2, 7, -2, 7])
SCORES = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])
# One compilation per shape instead of one per operation; one test compares with the plain parts.
JITTED = {
    name: jax.jit(part, static_argnames=("advantage_epsilon",) if name == "group_zscore" else ())
    for name, part in ADVANTAGES.items()
}
PLAIN = sorted(set(ADVANTAGES) - set(BASELINE_UPDATES))


def rows(name, scores, groups=None, **settings):
    """Row advantages [N] of scores that sit in one token each."""
    scores = jnp.asarray(scores, jnp.float32)
    groups = jnp.zeros(len(scores), int) if groups is None else jnp.asarray(groups)
    mask = jnp.ones((len(scores), 1), bool)
    return JITTED[name](scores[:, None], mask, groups, **settings)[:, 0]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("none", [1, 2, 3, 4, 5]),
        ("batch_mean", [-2, -1, 0, 1, 2]),
        ("group_mean", [-2, -1, 0, 1, 2]),  # group means 3 and 3
        ("group_leave_one_out", [-3, -2, 0, 2, 3]),
        ("group_zscore", [-1, -1 / np.sqrt(2), 0, 1 / np.sqrt(2), 1]),  # deviations 2, sqrt 2
    ],
)
def test_hand_values(name, expected):
    np.testing.assert_allclose(rows(name, SCORES, GROUPS), expected, atol=3e-6)


def test_scores_are_masked_sums_and_are_spread_over_the_mask():
    rewards = jnp.array([[0.25, 100.0, 0.5], [0.0, -1.0, jnp.nan]])
    mask = jnp.array([[True, False, True], [True, True, False]])
    advantages = ADVANTAGES["none"](rewards, mask, jnp.array([0, 0]))
    np.testing.assert_array_equal(advantages, [[0.75, 0, 0.75], [-1, -1, 0]])


def test_the_deviation_is_unbiased_and_epsilon_is_added_to_it():
    got = rows("group_zscore", [0.0, 1.0], advantage_epsilon=0.5)
    np.testing.assert_allclose(got, np.array([-0.5, 0.5]) / (np.sqrt(0.5) + 0.5), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(NEEDS_GROUPS))
@pytest.mark.parametrize("reward", [0.1, -0.7, 0.9, 1.0, 1e6])
def test_a_homogeneous_group_gets_exactly_zero(name, reward):
    # The float32 mean of seven times 0.1 is not 0.1, that of seven times 0.9 is not 0.9.
    got = rows(name, [reward] * 7 + [1.0, 2.0], [0] * 7 + [1, 1])
    np.testing.assert_array_equal(got[:7], 0.0)


@pytest.mark.parametrize(
    "name, expected", [("group_leave_one_out", 0.0), ("group_mean", 3.0), ("group_zscore", 3.0)]
)
def test_a_group_of_one(name, expected):
    np.testing.assert_allclose(rows(name, [3.0, 1.0, 2.0], [4, 9, 9])[0], expected, rtol=2e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_empty_rows_are_not_there(name):
    mask = jnp.ones((5, 2), bool)
    rewards = jnp.stack([SCORES, jnp.zeros(5)], axis=1)
    extended = JITTED[name](
        jnp.concatenate([rewards, jnp.full((2, 2), 50.0)]),
        jnp.concatenate([mask, jnp.zeros((2, 2), bool)]),
        jnp.concatenate([GROUPS, jnp.array([7, 11])]),
    )
    np.testing.assert_allclose(
        extended[:5], JITTED[name](rewards, mask, GROUPS), rtol=1e-6, atol=1e-7
    )
    np.testing.assert_array_equal(extended[5:], 0.0)


@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_of_empty_rows_is_all_zero(name):
    got = JITTED[name](jnp.ones((3, 2)), jnp.zeros((3, 2), bool), jnp.array([0, 0, 1]))
    np.testing.assert_array_equal(got, 0.0)


@pytest.mark.parametrize("name", PLAIN)
def test_permuting_rows_permutes_advantages_and_jit_agrees(name):
    order = jnp.array([3, 0, 4, 1, 2])
    mask = jnp.ones((5, 1), bool)
    plain = ADVANTAGES[name](SCORES[order][:, None], mask, GROUPS[order])[:, 0]
    np.testing.assert_allclose(plain, rows(name, SCORES, GROUPS)[order], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(NEEDS_GROUPS))
def test_a_constant_per_group_changes_nothing(name):
    shifted = SCORES + jnp.where(GROUPS == 7, 10.0, -3.0)
    np.testing.assert_allclose(
        rows(name, shifted, GROUPS), rows(name, SCORES, GROUPS), rtol=1e-5, atol=1e-5
    )


def test_only_the_zscore_ignores_the_scale():
    np.testing.assert_allclose(
        rows("group_zscore", 8 * SCORES, GROUPS), rows("group_zscore", SCORES, GROUPS), atol=3e-6
    )
    np.testing.assert_allclose(
        rows("group_mean", 8 * SCORES, GROUPS), 8 * rows("group_mean", SCORES, GROUPS), rtol=1e-6
    )


def test_leave_one_out_is_parallel_to_the_group_mean():
    n = jnp.where(GROUPS == 7, 3.0, 2.0)
    np.testing.assert_allclose(
        rows("group_leave_one_out", SCORES, GROUPS),
        n / (n - 1) * rows("group_mean", SCORES, GROUPS),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", PLAIN)
def test_padding_columns_change_nothing_and_no_gradient_flows(name):
    rewards, mask = SCORES[:, None], jnp.ones((5, 1), bool)
    padded = JITTED[name](
        jnp.pad(rewards, ((0, 0), (0, 2)), constant_values=9.0),
        jnp.pad(mask, ((0, 0), (0, 2))),
        GROUPS,
    )
    np.testing.assert_allclose(padded[:, :1], JITTED[name](rewards, mask, GROUPS), rtol=1e-6)
    np.testing.assert_array_equal(padded[:, 1:], 0.0)
    gradient = jax.grad(lambda r: JITTED[name](r, mask, GROUPS)[0, 0])(rewards)
    np.testing.assert_array_equal(gradient, 0.0)


def test_fractional_rewards_survive():
    # Rewards kept in an integer type once turned 0.7 into 0.
    np.testing.assert_allclose(rows("none", [0.7]), [0.7], rtol=1e-6)


def test_the_moving_baseline_is_used_before_it_is_updated():
    rewards, mask = jnp.array([[1.0], [3.0], [9.0]]), jnp.array([[True], [True], [False]])
    baseline = jnp.array(0.5)
    advantages = ADVANTAGES["ema"](rewards, mask, jnp.zeros(3, int), baseline)
    np.testing.assert_allclose(advantages[:, 0], [0.5, 2.5, 0.0], rtol=1e-6)
    updated = update_ema_baseline(baseline, rewards, mask, ema_decay=0.9)
    np.testing.assert_allclose(updated, 0.9 * 0.5 + 0.1 * 2.0, rtol=1e-6)


def test_the_moving_baseline_ignores_an_empty_batch():
    updated = update_ema_baseline(jnp.array(0.5), jnp.ones((2, 1)), jnp.zeros((2, 1), bool))
    assert float(updated) == 0.5


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_the_decay_is_a_share(decay):
    with pytest.raises(ValueError, match="ema_decay"):
        update_ema_baseline(
            jnp.zeros(()), jnp.ones((1, 1)), jnp.ones((1, 1), bool), ema_decay=decay
        )


def test_share_without_signal_counts_groups_not_rows():
    scores = jnp.array([0.1, 0.1, 0.1, 1.0, 0.0, 4.0])
    groups = jnp.array([3, 3, 3, 1, 1, 8])
    mask = jnp.ones((6, 1), bool)
    share = jax.jit(share_without_signal)
    metric = share(scores[:, None], mask, groups)
    np.testing.assert_allclose([metric.total, metric.count], [2.0, 3.0], rtol=1e-6)
    empty = share(scores[:, None], mask & (groups == 1)[:, None], groups)
    np.testing.assert_allclose([empty.total, empty.count], [0.0, 1.0], atol=1e-7)
