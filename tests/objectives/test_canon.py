import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.advantages.canon_schedule import intra_weight

# One group of four, two of which are long, and one of three.
GROUPS = np.array([3, 1, 3, 1, 3, 3, 1])
LENGTHS = np.array([4, 1, 1, 4, 2, 3, 2])
MASK = np.arange(4) < LENGTHS[:, None]
SCORES = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.25], np.float32)
REWARDS = np.where(np.arange(4) == 0, SCORES[:, None], np.float32(0))
# Halves of the group of four: rows 2, 4 are short, rows 5, 0 are long. Of three: 1 and 6, 3.
SHORT, LONG = 0.5, 0.75


@functools.cache
def compiled(name, fields):
    return jax.jit(functools.partial(ADVANTAGES[name], **dict(fields)))


def by_length(scores=SCORES, step=0, **fields):
    rewards = np.where(np.arange(4) == 0, np.asarray(scores, np.float32)[:, None], np.float32(0))
    part = compiled("canon_length", tuple(fields.items()))
    return np.asarray(part(rewards, MASK, GROUPS, np.int32(step)))[:, 0]


def test_halves_are_compared_between_and_within():
    between, within = by_length(inter_weight=1.0), by_length(inter_weight=0.0)
    rows = [2, 4, 5, 0]
    np.testing.assert_allclose(between[rows], SCORES[rows] - [LONG, LONG, SHORT, SHORT])
    np.testing.assert_allclose(within[rows], SCORES[rows] - [SHORT, SHORT, LONG, LONG])
    # Of three rows the low half is one row, the shortest.
    odd = [1, 6, 3]
    np.testing.assert_allclose(between[odd], SCORES[odd] - [0.625, 0.0, 0.0])
    np.testing.assert_allclose(within[odd], SCORES[odd] - [0.0, 0.625, 0.625])


def test_the_even_mixture_is_dr_grpo_for_equal_halves_only():
    expected = np.asarray(ADVANTAGES["group_mean"](REWARDS, MASK, GROUPS))[:, 0]
    got = by_length(inter_weight=0.5)
    np.testing.assert_allclose(got[GROUPS == 3], expected[GROUPS == 3], atol=1e-7)
    assert np.abs(got - expected)[GROUPS == 1].max() > 0.05


def test_equal_halves_add_up_to_nothing():
    np.testing.assert_allclose(by_length(inter_weight=1.0)[GROUPS == 3].sum(), 0.0, atol=1e-6)


def test_the_discouraged_half_earns_less():
    fields = dict(inter_weight=1.0, discouraged_scale=0.5)
    got = by_length(**fields)
    np.testing.assert_allclose(got[[0, 5]], 0.5 * SCORES[[0, 5]] - SHORT)
    np.testing.assert_allclose(got[[2, 4]], SCORES[[2, 4]] - 0.5 * LONG)
    got = by_length(**fields, discouraged="low")
    np.testing.assert_allclose(got[[0, 5]], SCORES[[0, 5]] - 0.5 * SHORT)
    np.testing.assert_allclose(got[[2, 4]], 0.5 * SCORES[[2, 4]] - LONG)
    # All right: nothing but the efficiency is left.
    got = by_length(np.ones(7), **fields)[GROUPS == 3]
    np.testing.assert_allclose(got, np.where(LENGTHS[GROUPS == 3] > 2, -0.5, 0.5))
    np.testing.assert_array_equal(by_length(np.full(7, 0.1), inter_weight=0.3), 0.0)


def test_the_divisor_divides():
    np.testing.assert_allclose(
        by_length(inter_weight=0.3, advantage_divisor=8.0), by_length(inter_weight=0.3) / 8
    )


def test_only_the_order_of_the_metric_counts():
    mask, scores = np.ones((7, 1), bool), SCORES[:, None]
    entropy = np.array([0.3, 2.0, 0.1, 1.0, 0.7, 0.9, 1.5], np.float32)[:, None]
    part = compiled("canon_entropy", (("inter_weight", 0.7),))
    expected = part(scores, mask, GROUPS, entropy, np.int32(0))
    got = part(scores, mask, GROUPS, np.exp(3 * entropy), np.int32(0))
    np.testing.assert_array_equal(got, expected)
    assert not np.allclose(part(scores, mask, GROUPS, -entropy, np.int32(0)), expected)


def test_ties_keep_the_order_of_rows_and_the_control_splits_by_it():
    mask, scores = np.ones((7, 1), bool), SCORES[:, None]
    by_ties = compiled("canon_length", ())(scores, mask, GROUPS, np.int32(0))
    by_order = compiled("canon_order", ())(scores, mask, GROUPS, np.int32(0))
    np.testing.assert_array_equal(by_ties, by_order)
    # Group 3 in order: rows 0, 2 (mean 0.5) and 4, 5 (mean 0.75).
    np.testing.assert_allclose(by_order[[0, 2, 4, 5], 0], [0.25, -0.75, 0.5, 0.0])


@pytest.mark.parametrize(
    "schedule, values",
    [
        ("constant", [0.25] * 6),
        ("accuracy", [0.4] * 6),
        ("inaccuracy", [0.6] * 6),
        ("intra_first", [0.02, 0.6, 0.6, 0.3, 0.6, 0.3]),
        ("inter_first", [1 - 1 / 30, 0.0, 0.0, 0.3, 0.0, 0.3]),
    ],
)
def test_values_of_the_schedules(schedule, values):
    weight = functools.partial(intra_weight, inter_schedule=schedule, inter_weight=0.75)
    got = [float(weight(jnp.array(s), jnp.array(0.6))) for s in (0, 29, 30, 50, 70, 90)]
    np.testing.assert_allclose(got, values, atol=1e-6)


def test_schedules_scale_with_the_run_and_accuracy_is_clipped():
    short = dict(inter_steps=16, inter_warmup=4, inter_cycles=2, intra_high=0.8, intra_low=0.2)
    weight = jax.jit(functools.partial(intra_weight, inter_schedule="intra_first", **short))
    got = [float(weight(np.int32(s), np.float32(0))) for s in (0, 3, 4, 7, 10)]
    np.testing.assert_allclose(got, [0.2, 0.8, 0.8, 0.5, 0.8], atol=1e-6)
    weight = functools.partial(intra_weight, inter_schedule="inter_first", **short)
    got = [float(weight(np.int32(s), np.float32(0))) for s in (0, 3, 4, 7, 10)]
    np.testing.assert_allclose(got, [0.8, 0.2, 0.2, 0.5, 0.2], atol=1e-6)
    assert float(intra_weight(0, jnp.array(1.7), inter_schedule="accuracy")) == 0.0


def test_the_advantage_reads_the_step_and_the_accuracy():
    at_70 = by_length(step=70, inter_schedule="intra_first")
    np.testing.assert_allclose(at_70, by_length(inter_weight=0.4), rtol=1e-5, atol=1e-7)
    by_accuracy = by_length(inter_schedule="accuracy")
    expected = by_length(inter_weight=float(SCORES.mean()))
    np.testing.assert_allclose(by_accuracy, expected, rtol=1e-5, atol=1e-7)
