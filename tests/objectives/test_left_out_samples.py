"""What holds for every advantage: equal rewards give exactly 0, and a sample left out is not there.

A sample without a verdict has an empty mask (training/collect/grouped.py).
"""

import functools

import jax
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES, SCALE_FREE
from rljax.objectives.means import mean_of, ratio
from rljax.objectives.parts import fields_of, inputs_of

# Those without a baseline that follows the rewards; the baselines of the others are equal scores.
WITHOUT_BASELINE = {"none", "signed_outcome", "budgeted", "best_constrained"}
WITHOUT_BASELINE |= {"signed_beside_demonstrations"}
# Those of trajectories need segments, of accepted samples a score that is right.
WITHOUT_BASELINE |= {"trajectory_gae", "accepted_mean"}
# The KL of a sample is part of what it earns.
WITHOUT_BASELINE |= {"calibrated_constrained"}
# Every turn has a reward of its own.
WITHOUT_BASELINE |= {"role_turn_zscore"}
ROWS, SLOTS = 12, 7


@functools.cache
def jitted(name, fields):
    return jax.jit(functools.partial(ADVANTAGES[name], **dict(fields)))


def step(scores, groups, *, lengths=None):
    """All arrays that some advantage reads; the critic has learned the mean reward."""
    scores, groups = np.asarray(scores, np.float32), np.asarray(groups)
    rows = len(scores)
    lengths = np.full(rows, SLOTS) if lengths is None else np.asarray(lengths)
    mask = np.arange(SLOTS) < lengths[:, None]
    last = np.arange(SLOTS) == lengths[:, None] - 1
    draws = np.random.default_rng(0).uniform(0.1, 0.9, (3, rows, SLOTS)).astype(np.float32)
    values = np.full((rows, SLOTS), scores[0])
    return {
        "token_rewards": np.where(last, scores[:, None], np.float32(0)),
        "mask": mask,
        "group_ids": groups,
        "scores": scores,
        "correct": scores >= np.float32(scores[0]),
        "finished": np.ones(rows, bool),
        "greedy_scores": np.full(rows, scores[0]),
        "base_scores": np.full(rows, scores[0]),
        "satisfied": np.ones(rows, bool),
        "components": np.stack([scores, np.zeros(rows, np.float32)], axis=1),
        "component_weights": np.array([1.0, 0.5], np.float32),
        "component_applies": np.ones((rows, 2), bool),
        "loss_history": np.random.default_rng(2).uniform(0.5, 1, (2, 20)).astype(np.float32),
        "component_advantages": np.broadcast_to(scores[:, None, None], (rows, SLOTS, 3)),
        "multipliers": np.array([0.3, -0.2], np.float32),
        "demonstration": np.zeros(rows, bool),
        # Of a pool that is the group: its first score, where all are equal exactly their mean.
        "pool_means": np.array([scores[groups == group][0] for group in groups]),
        "pool_deviations": np.ones(rows, np.float32),
        "old_logprobs": np.log(draws[0]),
        "ref_logprobs": np.log(draws[2]),
        "old_collision": draws[0] ** 2 + 0.01,
        "old_entropy": draws[1],
        "step": np.int32(3),
        "baseline": scores[0],
        "roles": np.arange(rows, dtype=np.int32) % 2,
        "role_baselines": np.full(2, scores[0]),
        "role_weights": np.ones(2, np.float32),
        "values": values,
        "start_values": values,
        "end_values": np.broadcast_to(scores[:, None], (rows, SLOTS)),
        "segment_ids": np.broadcast_to(np.arange(SLOTS) // 3, (rows, SLOTS)),
    }


def advantages(name, arrays, **fields):
    own = {field: value for field, value in fields.items() if field in fields_of(ADVANTAGES[name])}
    part = jitted(name, tuple(own.items()))
    return np.asarray(part(*(arrays[key] for key in inputs_of(ADVANTAGES[name]))))


# Arrays without a row for each sample.
OF_STEPS = ("component_weights", "multipliers", "loss_history")
OF_STEPS += ("role_baselines", "role_weights")
SCALES = [1e-3, 0.1, 0.7, 10.1, 1000.1, 1e6 + 0.1, -0.3]


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - WITHOUT_BASELINE))
def test_equal_rewards_have_no_advantage_at_any_scale(name):
    """NeMo-RL#4161, ms-swift#3980: whitened rounding errors were advantages of 0.005 to 0.99."""
    for worth in map(np.float32, SCALES):
        if name == "bnpo" and not 0 <= worth <= 1:
            continue
        arrays = step(np.full(ROWS, worth), np.arange(ROWS) // 4)
        # The virtual best sample, where there is one, is as good as the others.
        got = advantages(name, arrays, virtual_score=float(worth))
        np.testing.assert_array_equal(got, 0.0, err_msg=f"{worth}")


# A whitening over tokens does not centre single groups; two halves of a group may differ.
OF_BATCH = {"batch_mean", "ema", "remax", "reinforce_plus_plus", "reinforce_plus_plus_baseline"}
OF_VALUES = {"gae", "gae_length_adaptive", "macro_gae", "segment_difference", "mixed_components"}
OF_BATCH |= {"role_baseline"}
CENTRED = set(ADVANTAGES) - WITHOUT_BASELINE - OF_BATCH - OF_VALUES - {"group_zscore_virtual"}


@pytest.mark.parametrize("name", sorted(CENTRED))
def test_groups_of_different_constants_have_no_advantage(name):
    constants = np.array([0.1, 0.7, 0.3])
    got = advantages(name, step(constants[np.arange(ROWS) // 4], np.arange(ROWS) // 4))
    np.testing.assert_array_equal(got, 0.0)


def with_left_out(arrays, rows):
    """The same step with more rows at some places, whose masks are empty and whose numbers lie."""
    kept = np.ones(ROWS + len(rows), bool)
    kept[rows] = False

    def wider(name, values):
        if np.ndim(values) == 0 or name in OF_STEPS:
            return values
        fill = {"mask": False, "correct": True, "group_ids": arrays["group_ids"][0]}.get(name)
        if fill is None:
            fill = 77.0 if values.dtype.kind == "f" else 1
        whole = np.full((len(kept), *values.shape[1:]), fill, values.dtype)
        whole[kept] = values
        return whole

    return {name: wider(name, values) for name, values in arrays.items()}, kept


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_a_sample_left_out_is_as_if_it_had_not_been_sampled(name):
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 3, ROWS) / 2
    lengths = rng.integers(1, SLOTS + 1, ROWS)
    arrays = step(scores, np.arange(ROWS) // 4, lengths=lengths)
    more, kept = with_left_out(arrays, [0, 5, 9])
    expected, got = advantages(name, arrays), advantages(name, more)
    np.testing.assert_allclose(got[kept], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[~kept], 0.0)
    assert np.abs(expected).max() > 0.01


# Arrays in the unit of the scores.
OF_SCORES = ("token_rewards", "scores", "baseline", "greedy_scores", "base_scores", "values")
OF_SCORES += ("start_values", "end_values", "pool_means", "pool_deviations", "components")
OF_SCORES += ("component_advantages",)


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - {"bnpo"}))  # its scores end at 1
def test_it_is_known_which_advantages_undo_a_factor_of_all_scores(name):
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 3, ROWS) / 2 + rng.uniform(0, 0.1, ROWS)
    arrays = step(scores, np.arange(ROWS) // 4, lengths=rng.integers(1, SLOTS + 1, ROWS))
    twice = {key: 2 * values if key in OF_SCORES else values for key, values in arrays.items()}
    plain, got = advantages(name, arrays), advantages(name, twice)
    field = fields_of(ADVANTAGES[name]).get("whiten_advantages")
    undone = name in SCALE_FREE or (field is not None and field.default)
    assert (np.abs(got - plain).max() < 1e-4 * np.abs(plain).max()) == undone


def test_a_prompt_whose_greedy_completion_has_no_verdict_has_no_advantage():
    arrays = step(np.arange(ROWS), np.arange(ROWS) // 4)
    arrays["greedy_scores"] = np.where(np.arange(ROWS) < 4, np.nan, np.float32(2))
    got = advantages("remax", arrays)
    np.testing.assert_array_equal(got[:4], 0.0)
    np.testing.assert_array_equal(got[4:, 0], np.arange(4, ROWS) - 2)


def test_the_mean_of_equal_numbers_is_that_number():
    values = np.full(1001, np.float32(0.1))
    there = np.arange(1001) < 777
    assert mean_of(values, there) == np.float32(0.1)
    assert mean_of(values, np.zeros(1001, bool)) == 0.0
    assert ratio(np.float32(0), np.float32(0)) == 0.0
