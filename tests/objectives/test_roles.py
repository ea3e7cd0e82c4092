"""What roles are compared with: the numbers of the sheet of MaxRL, RAE and hierarchical GRPO."""

import functools

import jax
import numpy as np
import pytest

from rljax.objectives.advantages import update_role_baselines
from rljax.objectives.advantages.roles import role_baseline, role_group_mean, role_turn_zscore
from rljax.objectives.selections import with_advantage

SLOTS = 3


def rows(scores, present=None):
    """Rewards on the last of three tokens, and masks of one to three tokens."""
    scores = np.asarray(scores, np.float32)
    lengths = 1 + np.arange(len(scores)) % SLOTS
    mask = np.arange(SLOTS) < lengths[:, None]
    last = np.arange(SLOTS) == lengths[:, None] - 1
    if present is not None:
        mask &= np.asarray(present)[:, None]
    return np.where(last, scores[:, None], 0).astype(np.float32), mask


def of_rows(advantages, mask):
    """One number for each row, which all its tokens share."""
    advantages = np.asarray(advantages)
    np.testing.assert_array_equal(advantages[~mask], 0)
    first = advantages[:, 0]
    same = np.broadcast_to(first[:, None], mask.shape)
    np.testing.assert_array_equal(advantages[mask], same[mask])
    return first


def baseline(scores, roles, before=(0.0, 0.0), weights=(0.0, 0.0), present=None, **fields):
    """Advantages [N], and the state after them."""
    rewards, mask = rows(scores, present)
    state = np.asarray(before, np.float32), np.asarray(weights, np.float32)
    part = jax.jit(functools.partial(role_baseline, **fields))
    decay = {name: value for name, value in fields.items() if name == "role_decay"}
    after = jax.jit(functools.partial(update_role_baselines, **decay))
    arguments = rewards, mask, np.asarray(roles, np.int32), *state
    return of_rows(part(*arguments), mask), *map(np.asarray, after(*arguments))


def test_the_numbers_of_the_sheet():
    """Three games of which role 0 wins two: A = 1, .95, -1.0975; role 1 has the negatives."""
    found, after, weights = baseline([1, -1, 1, -1, -1, 1], [0, 1] * 3)
    np.testing.assert_allclose(found[::2], [1, 0.95, -1.0975], atol=1e-6)
    np.testing.assert_allclose(found[1::2], -found[::2], atol=1e-6)
    np.testing.assert_allclose(after, [0.042625, -0.042625], atol=1e-7)
    np.testing.assert_allclose(weights, 1 - 0.95**3, rtol=1e-5)
    # Game by game the state is .05, .0975, .042625, and splitting a step changes nothing.
    state, seen, parts = (0.0, 0.0), (0.0, 0.0), []
    for score, expected in ((1, 0.05), (1, 0.0975), (-1, 0.042625)):
        part, state, seen = baseline([score, -score], [0, 1], state, seen)
        assert state[0] == pytest.approx(expected, abs=1e-7)
        parts.extend(part)
    np.testing.assert_allclose(parts, found, atol=1e-7)


def test_a_first_mover_s_edge_is_no_advantage():
    """P(role 0 wins) = .8: raw means +.6 and -.6, mean advantages of both near 0."""
    rng = np.random.default_rng(0)
    wins = np.where(rng.uniform(size=2000) < 0.8, 1.0, -1.0)
    scores = np.stack([wins, -wins], axis=1).reshape(-1)
    roles = np.tile([0, 1], 2000)
    found, after, _ = baseline(scores, roles)
    raw = [scores[roles == role].mean() for role in (0, 1)]
    np.testing.assert_allclose(raw, [0.6, -0.6], atol=0.04)
    means = [found[roles == role].mean() for role in (0, 1)]
    np.testing.assert_allclose(means, 0, atol=0.02)
    np.testing.assert_allclose(after, raw, atol=0.35)


def test_bias_correction_is_a_weighted_mean_of_what_was_seen():
    scores, decay = [1.0, 0.0, 2.0, -1.0], 0.9
    found, _, _ = baseline(scores, [1] * 4, role_bias_correction=True, role_decay=decay)
    expected = [scores[0]]
    for n in range(1, 4):
        weights = decay ** np.arange(n - 1, -1, -1)
        expected.append(scores[n] - np.average(scores[:n], weights=weights))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_row_that_is_left_out_changes_no_baseline():
    whole = baseline([1, 0.5, -1], [0, 0, 0])
    more = baseline([1, 99, 0.5, -1], [0] * 4, present=[True, False, True, True])
    np.testing.assert_array_equal(np.delete(more[0], 1), whole[0])
    assert more[0][1] == 0
    np.testing.assert_array_equal(more[1], whole[1])
    np.testing.assert_array_equal(more[2], whole[2])


def test_roles_have_baselines_of_their_own():
    alone = baseline([1, 0.5], [1, 1])
    both = baseline([1, -3, 0.5, 7], [1, 0, 1, 0])
    np.testing.assert_array_equal(both[0][::2], alone[0])
    np.testing.assert_array_equal(both[1][1], alone[1][1])


def test_hierarchical_means():
    """Solvers within their problem, proposers within the task; a flat mean mixes both."""
    solvers = rows([1, 1, 0, 0, 0, 0])
    found = of_rows(role_group_mean(*solvers, np.array([5, 5, 5, 2, 2, 2])), solvers[1])
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, -2 / 3, 0, 0, 0], atol=1e-6)
    flat = of_rows(role_group_mean(*solvers, np.zeros(6, int)), solvers[1])
    np.testing.assert_allclose(flat, [2 / 3, 2 / 3, -1 / 3, -1 / 3, -1 / 3, -1 / 3], atol=1e-6)
    proposers = rows([0.9, 0.1])
    found = of_rows(role_group_mean(*proposers, np.array([7, 7])), proposers[1])
    np.testing.assert_allclose(found, [0.4, -0.4], atol=1e-6)
    alone = of_rows(role_group_mean(*proposers, np.array([7, 8])), proposers[1])
    np.testing.assert_array_equal(alone, 0)


def test_turns_are_compared_with_turns_of_their_role():
    """Rewards of two turns in a row, of another role's, and of a row that is not there."""
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
    segments = np.array([[0, 0, 0, 1], [0] * 4, [0] * 4, [0] * 4])
    rewards = np.array([[0.5, 0.5, 9, 3], [2, 9, 9, 9], [0, 0, 7, 9], [50, 9, 9, 9]], np.float32)
    roles = np.array([0, 0, 1, 0], np.int32)
    found = np.asarray(role_turn_zscore(rewards, mask, segments, roles, advantage_epsilon=0.0))
    # Turns of role 0 earn 1, 3, 2: mean 2, deviation 1. That of role 1 is alone.
    expected = [[-1, -1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rows_without_advantage_leave_the_loss():
    mask = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0]], bool)
    advantages = np.array([[0, 0, 5], [0, -1e-9, 0], [2, 0, 0]], np.float32)
    kept = np.asarray(with_advantage(mask, advantages))
    np.testing.assert_array_equal(kept, mask & np.array([[False], [True], [True]]))


@pytest.mark.parametrize("part", [role_baseline, update_role_baselines])
def test_a_decay_out_of_range(part):
    rewards, mask = rows([1.0])
    with pytest.raises(ValueError, match=r"role_decay is 1.5; it must be in \[0, 1\]"):
        part(rewards, mask, np.zeros(1, int), np.zeros(1), np.zeros(1), role_decay=1.5)
