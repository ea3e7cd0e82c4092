"""What holds for every advantage without a critic, and hand values of the plain ones."""

import functools

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
from rljax.objectives.parts import fields_of, inputs_of

# Two groups in mixed order with ids that are no 0 .. n-1: scores 1, 3, 5 and 2, 4.
GROUPS = np.array([7, -2, 7, -2, 7])
SCORES = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
LENGTHS = np.array([1, 2, 3, 4, 2])
PLAIN = ("none", "batch_mean", "group_mean", "group_leave_one_out", "group_zscore")
# Parts that need a critic or segments have tests of their own.
ELSEWHERE = {"values", "start_values", "end_values", "segment_ids", "baseline", "roles"}
ELSEWHERE |= {"component_advantages", "component_applies"}
ALL = sorted(n for n, part in ADVANTAGES.items() if not ELSEWHERE & set(inputs_of(part)))


def batch(scores, groups, lengths=None, *, slots=None, garbage=np.nan):
    """All arrays of a batch; its outcomes are on the last tokens, masked slots hold garbage."""
    scores, n = np.asarray(scores, np.float32), len(scores)
    lengths = np.ones(n, int) if lengths is None else np.asarray(lengths)
    slots = slots or max(lengths.max(), 1)
    mask = np.arange(slots) < lengths[:, None]
    last = np.arange(slots) == lengths[:, None] - 1
    draws = np.random.default_rng(0).uniform(0.1, 0.9, (3, n, 16)).astype(np.float32)

    def tokens(values):
        return np.where(mask, values, np.float32(garbage))

    return {
        "token_rewards": tokens(np.where(last, scores[:, None], np.float32(0))),
        "mask": mask,
        "group_ids": np.asarray(groups),
        "scores": scores,
        "correct": scores > 0.5,
        "finished": np.ones(n, bool),
        "greedy_scores": np.full(n, 0.25, np.float32),
        "base_scores": np.full(n, 0.25, np.float32),
        "satisfied": scores > 0.25,
        "components": np.stack([scores, np.zeros(n, np.float32)], axis=1),
        "component_weights": np.array([1.0, 0.5], np.float32),
        "demonstration": np.zeros(n, bool),
        "pool_means": np.full(n, 0.5, np.float32),
        "pool_deviations": np.full(n, 0.25, np.float32),
        "old_logprobs": tokens(np.log(draws[0, :, :slots])),
        "ref_logprobs": tokens(np.log(draws[2, :, :slots])),
        "old_collision": tokens(draws[0, :, :slots] ** 2 + 0.01),
        "old_entropy": tokens(draws[1, :, :slots] + scores[:, None]),
        "step": np.int32(3),
    }


@functools.cache
def jitted(name, fields=()):
    return jax.jit(functools.partial(ADVANTAGES[name], **dict(fields)))


def padded(arrays, rows=9, slots=6, garbage=np.inf):
    """The batch with rows without tokens and masked slots, whose arrays hold garbage."""
    n, t = arrays["mask"].shape

    def grown(name, value):
        if np.ndim(value) == 0 or name == "component_weights":
            return value
        fill = {"group_ids": 7, "mask": False}.get(name, garbage if value.dtype.kind == "f" else 1)
        wide = 0 if name == "components" else slots - t
        shape = ((0, rows - n), (0, wide))[: np.ndim(value)]
        return np.pad(value, shape, constant_values=fill)

    return {name: grown(name, value) for name, value in arrays.items()}


def advantages(name, arrays, **fields):
    """Advantages [N, T], from a padded batch: one shape for all tests, so a part compiles once."""
    part, more = jitted(name, tuple(fields.items())), padded(arrays)
    n, t = arrays["mask"].shape
    return np.asarray(part(*(more[key] for key in inputs_of(ADVANTAGES[name]))))[:n, :t]


def rows(name, scores, groups=None, **fields):
    """Row advantages [N] of scores that sit in one token each."""
    groups = np.zeros(len(scores), int) if groups is None else groups
    return advantages(name, batch(scores, groups), **fields)[:, 0]


def taken(arrays, order):
    """The batch with rows in another order."""
    return {
        key: value[order] if np.ndim(value) and key != "component_weights" else value
        for key, value in arrays.items()
    }


# Scores in [0, 1], as BNPO needs them.
BATCH = batch(SCORES / 5, GROUPS, LENGTHS)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("none", [1, 2, 3, 4, 5]),
        ("batch_mean", [-2, -1, 0, 1, 2]),
        ("group_mean", [-2, -1, 0, 1, 2]),  # group means 3 and 3
        ("group_leave_one_out", [-3, -2, 0, 2, 3]),
        ("group_zscore", [-1, -1 / np.sqrt(2), 0, 1 / np.sqrt(2), 1]),  # deviations 2, sqrt 2
        ("group_mean_batch_deviation", np.array([-2, -1, 0, 1, 2]) / np.sqrt(2.5)),
        ("group_length_weighted", [-2, -1, 0, 1, 2]),  # all of one token
        ("gpg", [-2, -1, 0, 1, 2]),
        ("pass_at_k", [0, 0, 0, 2 / np.sqrt(2), 2 / 2]),
    ],
)
def test_hand_values(name, expected):
    np.testing.assert_allclose(rows(name, SCORES, GROUPS), expected, atol=3e-6)


def test_scores_are_masked_sums_and_are_spread_over_the_mask():
    rewards = jnp.array([[0.25, 100.0, 0.5], [0.0, -1.0, jnp.nan]])
    mask = jnp.array([[True, False, True], [True, True, False]])
    got = ADVANTAGES["none"](rewards, mask, jnp.array([0, 0]))
    np.testing.assert_array_equal(got, [[0.75, 0, 0.75], [-1, -1, 0]])


def test_the_deviation_is_unbiased_and_epsilon_is_added_to_it():
    got = rows("group_zscore", [0.0, 1.0], advantage_epsilon=0.5)
    np.testing.assert_allclose(got, np.array([-0.5, 0.5]) / (np.sqrt(0.5) + 0.5), rtol=1e-6)


def test_the_length_weighs_in_the_baseline():
    got = advantages("group_length_weighted", batch(SCORES, GROUPS, LENGTHS))
    baselines = np.where(GROUPS == 7, (1 * 1 + 3 * 3 + 2 * 5) / 6, (2 * 2 + 4 * 4) / 6)
    np.testing.assert_allclose(got[:, 0], SCORES - baselines, rtol=1e-6)


@pytest.mark.parametrize(
    "rescale, scale", [("informative_rows", 5 / 2), ("nonzero_scores", 5 / 4), ("none", 1.0)]
)
def test_gpg_undoes_the_dilution_by_rows_without_gradient(rescale, scale):
    # Three rows agree; one of the other two scores 0.
    got = rows("gpg", [1.0, 1.0, 1.0, 0.0, 1.0], [0, 0, 0, 1, 1], rescale=rescale, f_norm=2.0)
    np.testing.assert_allclose(got, np.array([0, 0, 0, -0.5, 0.5]) * scale / 2, atol=1e-7)


def test_best_rows_that_tie_and_rows_that_are_not_best_get_nothing():
    got = rows("pass_at_k", [2.0, 2.0, 0.0, 1.0, 0.5], [0, 0, 0, 1, 1], divide_by_deviation=False)
    np.testing.assert_allclose(got, [0, 0, 0, 0.5, 0], rtol=1e-6)


# Token whitening, virtual samples, rewards of the tail and weights of right rows do not vanish.
VANISHING = NEEDS_GROUPS - {
    "reinforce_plus_plus_baseline",
    "group_zscore_virtual",
    "optimal_token_baseline",
    "budgeted",
    "best_constrained",
    "trajectory_gae",  # a critic's
    "reweighted_components",  # test_reweighted.py
}


@pytest.mark.parametrize("name", sorted(VANISHING))
@pytest.mark.parametrize("reward", [0.1, 0.7, 1.0])
def test_a_homogeneous_group_gets_exactly_zero(name, reward):
    # The float32 mean of seven times 0.1 is not 0.1.
    arrays = batch([reward] * 7 + [0.2, 0.6], [0] * 7 + [1, 1], [1, 2, 3, 4, 1, 2, 3, 4, 4])
    np.testing.assert_array_equal(advantages(name, arrays)[:7], 0.0)


@pytest.mark.parametrize(
    "name, expected",
    [
        *[(name, 0.0) for name in ("group_leave_one_out", "group_mean_batch_deviation")],
        *[(name, 0.0) for name in ("group_token_zscore", "pass_at_k")],
        *[(name, 0.5) for name in ("group_mean", "group_zscore", "group_length_weighted")],
        *[(name, 0.5) for name in ("group_mean_sampled", "group_zscore_virtual", "gpg")],
        *[(name, 0.5) for name in ("canon_length", "canon_entropy", "canon_order")],
        ("optimal_token_baseline", 0.5),
        ("signed_beside_demonstrations", -1.0),
    ],
)
def test_a_group_of_one(name, expected):
    arrays = batch([0.5, 0.1, 0.2], [4, 9, 9], [2, 1, 2])
    np.testing.assert_allclose(advantages(name, arrays)[0], [expected] * 2, rtol=3e-6)


def test_samples_are_signed_and_their_demonstration_is_compared_with_all():
    """Scores 1, 0 and of the demonstration 1: mean 2 / 3, unbiased variance 1 / 3."""
    arrays = batch([1.0, 0.0, 1.0], [5, 5, 5]) | {"demonstration": np.array([0, 0, 1], bool)}
    found = advantages("signed_beside_demonstrations", arrays)[:, 0]
    np.testing.assert_allclose(found, [1, -1, (1 / 3) * 3**0.5], rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_rows_without_tokens_and_masked_slots_are_not_there(name):
    expected = ADVANTAGES[name](*(BATCH[key] for key in inputs_of(ADVANTAGES[name])))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(advantages(name, BATCH), expected, rtol=2e-5, atol=2e-6)
    more = padded(BATCH)
    got = np.asarray(jitted(name)(*(more[key] for key in inputs_of(ADVANTAGES[name]))))
    np.testing.assert_array_equal(got[~more["mask"]], 0.0)


@pytest.mark.parametrize("name", ALL)
def test_no_gradient_flows_into_rewards(name):
    if "token_rewards" not in inputs_of(ADVANTAGES[name]):
        pytest.skip("it reads no rewards of tokens")
    others = [BATCH[key] for key in inputs_of(ADVANTAGES[name]) if key != "token_rewards"]

    def total(rewards):
        return ADVANTAGES[name](rewards, *others).sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(BATCH["token_rewards"]), 0.0)


@pytest.mark.parametrize("name", ALL)
def test_numbers_may_be_traced(name):
    part = ADVANTAGES[name]
    numbers = {
        field: described.default
        for field, described in fields_of(part).items()
        if described.type in (int, float)
    }
    arrays = [BATCH[key] for key in inputs_of(part)]
    traced = jax.eval_shape(lambda fields: part(*arrays, **fields), numbers)
    assert traced.shape == BATCH["mask"].shape


@pytest.mark.parametrize("name", ALL)
def test_a_batch_of_empty_rows_is_all_zero(name):
    arrays = BATCH | {"mask": np.zeros_like(BATCH["mask"])}
    np.testing.assert_array_equal(advantages(name, arrays), 0.0)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"canon_order"}))
def test_permuting_rows_permutes_advantages(name):
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(
        advantages(name, taken(BATCH, order)), advantages(name, BATCH)[order], rtol=2e-5, atol=1e-6
    )


SHIFTED = {"bnpo", "group_mean_batch_deviation", "group_mean_ratio"}
UNSHIFTED = VANISHING - SHIFTED | {"reinforce_plus_plus_baseline"}


@pytest.mark.parametrize("name", sorted(UNSHIFTED))
def test_a_constant_per_group_changes_nothing(name):
    shifted = batch(SCORES / 5 + np.where(GROUPS == 7, 1.0, -0.3), GROUPS, LENGTHS)
    shifted["old_entropy"] = BATCH["old_entropy"]
    np.testing.assert_allclose(
        advantages(name, shifted), advantages(name, BATCH), rtol=1e-5, atol=2e-6
    )


@pytest.mark.parametrize(
    "name, scale",
    [
        *[(name, 1.0) for name in ("group_zscore", "group_token_zscore", "pass_at_k")],
        *[(name, 1.0) for name in ("group_mean_batch_deviation", "reinforce_plus_plus")],
        ("reinforce_plus_plus_baseline", 1.0),
        *[(name, 8.0) for name in ("group_mean", "group_length_weighted", "gpg")],
    ],
)
def test_only_those_with_a_deviation_ignore_the_scale(name, scale):
    scaled = batch(8 * SCORES / 5, GROUPS, LENGTHS)
    np.testing.assert_allclose(
        advantages(name, scaled), scale * advantages(name, BATCH), rtol=2e-5, atol=1e-6
    )


def test_leave_one_out_and_the_zscore_are_the_centred_score_times_a_number():
    centred, n = rows("group_mean", SCORES, GROUPS), np.where(GROUPS == 7, 3.0, 2.0)
    np.testing.assert_allclose(
        rows("group_leave_one_out", SCORES, GROUPS), n / (n - 1) * centred, rtol=1e-6
    )
    deviation = np.where(GROUPS == 7, 2.0, np.sqrt(2.0))
    got = rows("group_zscore", SCORES, GROUPS, advantage_epsilon=0.0)
    np.testing.assert_allclose(got * deviation, centred, rtol=1e-6)


def test_fractional_rewards_survive():
    # Rewards kept in an integer type once turned 0.7 into 0.
    np.testing.assert_allclose(rows("none", [0.7]), [0.7], rtol=1e-6)


def test_the_moving_baseline_is_used_before_it_is_updated():
    rewards, mask = jnp.array([[1.0], [3.0], [9.0]]), jnp.array([[True], [True], [False]])
    baseline = jnp.array(0.5)
    got = ADVANTAGES["ema"](rewards, mask, jnp.zeros(3, int), baseline)
    np.testing.assert_allclose(got[:, 0], [0.5, 2.5, 0.0], rtol=1e-6)
    updated = update_ema_baseline(baseline, rewards, mask, ema_decay=0.9)
    np.testing.assert_allclose(updated, 0.9 * 0.5 + 0.1 * 2.0, rtol=1e-6)
    assert set(BASELINE_UPDATES) == {"ema"}


def test_the_moving_baseline_ignores_an_empty_batch():
    updated = update_ema_baseline(jnp.array(0.5), jnp.ones((2, 1)), jnp.zeros((2, 1), bool))
    assert float(updated) == 0.5


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_the_decay_is_a_share(decay):
    with pytest.raises(ValueError, match="ema_decay"):
        update_ema_baseline(
            jnp.zeros(()), jnp.ones((1, 1)), jnp.ones((1, 1), bool), ema_decay=decay
        )


BROKEN = {
    "rescale": "rows",
    "f_norm": 0.0,
    "advantage_epsilon": -1.0,
    "gamma": 1.5,
    "whiten_over": "rows",
    "positive_weight": -1.0,
    "negative_weight": -1.0,
    "virtual_samples": -1,
    "reward_max": -1.0,
    "inter_schedule": "linear",
    "inter_weight": 1.5,
    "inter_steps": 20,
    "inter_warmup": 0,
    "inter_cycles": 0,
    "intra_high": 2.0,
    "intra_low": -1.0,
    "discouraged": "both",
    "discouraged_scale": -1.0,
    "advantage_divisor": 0.0,
    "fallback_size": 0.0,
    "baseline_epsilon": -1.0,
    "long_from": 0,
    "long_budget": 1.5,
    "long_gain": "worst",
}


@pytest.mark.parametrize("field", BROKEN)
def test_fields_out_of_range_are_named(field):
    found = 0
    for name in sorted(set(ALL) - set(PLAIN)):
        part = ADVANTAGES[name]
        if field in fields_of(part):
            found += 1
            with pytest.raises(ValueError, match=field):
                part(*(BATCH[key] for key in inputs_of(part)), **{field: BROKEN[field]})
    assert found


def test_share_without_signal_counts_groups_not_rows():
    scores = jnp.array([0.1, 0.1, 0.1, 1.0, 0.0, 4.0])
    groups = jnp.array([3, 3, 3, 1, 1, 8])
    mask = jnp.ones((6, 1), bool)
    share = jax.jit(share_without_signal)
    metric = share(scores[:, None], mask, groups)
    np.testing.assert_allclose([metric.total, metric.count], [2.0, 3.0], rtol=1e-6)
    empty = share(scores[:, None], mask & (groups == 1)[:, None], groups)
    np.testing.assert_allclose([empty.total, empty.count], [0.0, 1.0], atol=1e-7)
