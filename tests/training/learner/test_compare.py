"""From scored samples to what updates learn from."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.outcomes import place_outcomes
from rljax.registry import resolve_objective
from rljax.training.learner.compare import compare_samples

MASK = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 0]], bool)
GROUPS = np.array([0, 0, 1, 1, 2, 2], np.int32)
SCORES = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], np.float32)


def arrays(**more):
    found = {
        "mask": jnp.asarray(MASK),
        "group_ids": jnp.asarray(GROUPS),
        "scores": jnp.asarray(SCORES),
        "correct": jnp.asarray(SCORES == 1),
        "finished": jnp.ones(6, bool),
        "behavior_logprobs": jnp.full(MASK.shape, -1.0),
        "old_logprobs": jnp.full(MASK.shape, -1.0),
        "step": jnp.int32(0),
        "progress": jnp.float32(0),
    }
    return found | {name: jnp.asarray(value) for name, value in more.items()}


def experience(method, overrides=None, **more):
    return compare_samples(resolve_objective(method, overrides or {}), arrays(**more))


def test_outcomes_go_to_the_last_true_slot():
    mask = jnp.array([[1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    placed = place_outcomes(jnp.array([0.7, -2.0, 5.0, 1.0]), mask)
    expected = np.array([[0, 0.7, 0], [0, 0, -2], [0, 0, 0], [0, 0, 1]], np.float32)
    np.testing.assert_array_equal(placed, expected)


def test_a_filter_takes_groups_out_of_the_loss_but_not_out_of_the_rows():
    made, _, metrics = experience("dapo", {"reward_shaping": "none"})
    np.testing.assert_array_equal(made["mask"], MASK & (GROUPS == 0)[:, None])
    assert metrics["groups_without_signal"].mean() == pytest.approx(2 / 3)
    assert metrics["trained_token_share"].mean() == pytest.approx(5 / MASK.sum())


def test_a_correction_is_a_weight_and_keeps_the_denominator():
    old = np.where(MASK, -1.0, np.nan)
    old[0, 0] += np.log(3.0)  # three times as likely for the trainer: truncated at 2
    made, _, _ = experience("tis", old_logprobs=old)
    assert made["correction"][0, 0] == pytest.approx(2.0)
    np.testing.assert_allclose(np.asarray(made["correction"])[1:][MASK[1:]], 1.0)
    np.testing.assert_array_equal(made["mask"], MASK)


def test_what_a_selection_with_full_denominator_leaves_out_still_counts():
    entropy = np.arange(MASK.size, dtype=np.float32).reshape(MASK.shape)
    made, _, _ = experience("top_entropy", old_entropy=entropy)
    np.testing.assert_array_equal(made["mask"], MASK)
    kept = np.asarray(made["correction"]) > 0
    assert 0 < kept.sum() < MASK.sum() and entropy[kept].min() > entropy[MASK & ~kept].max()


def test_relative_negatives_use_the_statistics_of_all():
    both, _, _ = experience("grpo", {"kl_placement": "none"})
    negative, _, _ = experience("grpo_n")
    expected = np.minimum(both["advantages"], 0.0)
    np.testing.assert_allclose(negative["advantages"], expected, rtol=1e-6)


SHOWN = np.array([0, 1, 0, 1, 0, 1], bool)  # the second row of each group is a demonstration


@pytest.mark.parametrize("threshold, groups_shown", [(-1.0, []), (0.0, [2]), (1.0, [0, 1, 2])])
def test_the_switch_trains_on_samples_or_on_the_demonstration(threshold, groups_shown):
    scores = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0], np.float32)
    made, _, _ = experience(
        "hpt",
        {"switch_threshold": threshold},
        demonstration=SHOWN,
        scores=scores,
        correct=scores == 1,
    )
    by_demonstration = np.isin(GROUPS, groups_shown)
    np.testing.assert_array_equal(made["mask"], MASK & (SHOWN == by_demonstration)[:, None])


def test_a_demonstration_is_no_part_of_the_groups_mean_under_the_switch():
    """Alone in its group, the sample keeps its score."""
    made, _, _ = experience("hpt", demonstration=SHOWN)
    np.testing.assert_allclose(np.asarray(made["advantages"])[~SHOWN, 0], SCORES[~SHOWN])


def test_the_controller_moves_the_weight_after_use():
    overrides = {
        "kl_placement": "reward",
        "kl_weight": 0.1,
        "kl_controller": "adaptive",
        "kl_target": 1.0,
        "kl_horizon": 6.0,
    }
    ref = np.full(MASK.shape, -2.0)  # a KL of one nat per token
    made, moved, _ = experience(
        "dr_grpo", overrides, ref_logprobs=ref, kl_coefficient=np.float32(0.2)
    )
    tokens = MASK.sum(axis=1)
    scores = (SCORES - 0.2 * tokens).reshape(3, 2)
    expected = (scores - scores.mean(axis=1, keepdims=True)).reshape(-1)
    np.testing.assert_allclose(made["advantages"][:, 0], expected, atol=1e-6)
    # The measured KL is the mean length, above the target by more than the clip of 0.2.
    assert float(moved["kl_coefficient"]) == pytest.approx(0.2 * (1 + 0.2 * 6 / 6))
    np.testing.assert_allclose(made["kl_weights"], 0.2)


def test_dropped_groups_enter_no_statistic_of_the_others():
    """Whitened over the batch: the group that is kept is compared with itself alone."""
    overrides = {"group_filter": "mixed"}
    made, _, _ = experience("reinforce_pp_baseline", overrides | {"kl_placement": "none"})
    kept = MASK & (GROUPS == 0)[:, None]
    np.testing.assert_array_equal(made["mask"], kept)
    advantages = np.asarray(made["advantages"])
    assert advantages[kept].mean() == pytest.approx(0.0, abs=1e-6)
    assert advantages[kept].var(ddof=1) == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_array_equal(advantages[~kept], 0.0)


def test_the_switch_judges_all_samples_even_where_a_selection_drops_them():
    """Group 1 is solved; that no token of it is selected does not bring in its demonstration."""
    finished = np.array([1, 1, 0, 1, 1, 1], bool)
    made, _, _ = experience(
        "hpt", {"selection": "finished"}, demonstration=SHOWN, finished=finished
    )
    np.testing.assert_array_equal(np.asarray(made["mask"])[GROUPS == 1], False)


def test_a_demonstration_does_not_save_a_group_from_the_filter():
    """Judged by its samples: all wrong, or all right, is no signal."""
    made, _, _ = experience(
        "luffy",
        {"group_filter": "mixed"},
        demonstration=np.array([0, 0, 0, 0, 0, 1], bool),
        correct=np.array([1, 0, 1, 1, 0, 1], bool),
    )
    np.testing.assert_array_equal(made["mask"], MASK & (GROUPS == 0)[:, None])
