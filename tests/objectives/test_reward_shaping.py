import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.parts import inputs_of
from rljax.objectives.reward_shaping import REWARD_SHAPINGS, thinking_budget

LENGTHS = np.array([2, 5, 6, 7, 8, 9, 10, 3])
ARRAYS = {
    "scores": np.array([1, 0, 1, 1, 0, 1, 0, 1], np.float32),
    "mask": np.arange(10) < LENGTHS[:, None],
    "group_ids": np.array([4, 4, 4, 4, 0, 0, 0, 0]),
    "correct": np.array([1, 0, 1, 1, 0, 1, 0, 1], bool),
    "finished": np.array([1, 1, 1, 1, 1, 1, 0, 1], bool),
    "old_entropy": np.ones((8, 10), np.float32),
    "progress": np.float32(0.5),
    "meta_reward": np.float32(1.5),
    "components": np.ones((8, 2), np.float32),
    "objective_weights": np.array([0.25, 0.75], np.float32),
}


def shaped(name, changes=None, **fields):
    arrays = ARRAYS | (changes or {})
    part = REWARD_SHAPINGS[name]
    return np.asarray(part(*(arrays[key] for key in inputs_of(part)), **fields))


def test_none_hands_scores_through():
    np.testing.assert_array_equal(shaped("none"), ARRAYS["scores"])


def test_the_overlong_penalty_grows_over_the_buffer():
    got = shaped("soft_overlong", overlong_length=8, overlong_buffer=4, overlong_penalty=1.0)
    penalty = np.array([0, -0.25, -0.5, -0.75, -1, -1, -1, 0])
    np.testing.assert_allclose(got, ARRAYS["scores"] + penalty)
    # Of scores 0 and 1 the paper's penalty, 1 of rewards -1 and 1, is a half.
    half = shaped("soft_overlong", overlong_length=8, overlong_buffer=4)
    np.testing.assert_allclose(half, ARRAYS["scores"] + penalty / 2)


def test_rewards_of_one_and_minus_one_give_the_papers_advantages():
    """reward = 2 score - 1 with the paper's penalty, up to the scale that a z-score takes out."""
    rewards = {"scores": 2 * ARRAYS["scores"] - 1}
    fields = dict(overlong_length=8, overlong_buffer=4)
    paper = shaped("soft_overlong", rewards, **fields, overlong_penalty=1.0)
    np.testing.assert_allclose(paper, 2 * shaped("soft_overlong", **fields) - 1, rtol=1e-6)


def test_the_overlong_limit_is_that_of_the_samples():
    """10 slots: limit 10, and a fifth of it before."""
    penalty = [0, 0, 0, 0, 0, -0.25, -0.5, 0]
    np.testing.assert_allclose(shaped("soft_overlong"), ARRAYS["scores"] + penalty)


def test_a_right_answer_that_was_cut_off_earns_nothing():
    cut = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)
    np.testing.assert_array_equal(shaped("truncation", {"finished": cut}), ARRAYS["scores"] * cut)
    # Ended in the very last slot: not cut off.
    full = {"mask": np.ones((8, 10), bool)}
    np.testing.assert_array_equal(shaped("truncation", full), ARRAYS["scores"])


def test_easier_prompts_have_a_shorter_limit():
    fields = dict(difficulty_thresholds=(0.5,), difficulty_lengths=(9, 6))
    # Group 4 is easy (3 of 4): limit 6, which row 3 (7 tokens) exceeds. Group 0 is at 2 of 4.
    np.testing.assert_array_equal(
        shaped("difficulty_truncation", **fields), [1, 0, 1, 0, 0, 1, 0, 1]
    )
    # A right answer that was cut off counts neither for its prompt nor for itself.
    cut = {"finished": np.array([0, 1, 1, 1, 1, 1, 0, 1], bool)}
    np.testing.assert_array_equal(
        shaped("difficulty_truncation", cut, **fields), [0, 0, 1, 1, 0, 1, 0, 1]
    )


def test_limits_do_not_grow_with_the_share_of_right_samples():
    fields = dict(difficulty_thresholds=(0.2, 0.6), difficulty_lengths=(9, 6, 2))
    longest = []
    for solved in range(5):
        kept = []
        for length in range(1, 11):
            # The first row's length varies; so many of the four are right.
            arrays = {
                "scores": np.ones(4, np.float32),
                "mask": np.arange(10) < np.array([[length], [1], [1], [1]]),
                "group_ids": np.zeros(4, int),
                "correct": np.arange(4) >= 4 - solved,
                "finished": np.ones(4, bool),
            }
            kept.append(shaped("difficulty_truncation", arrays, **fields)[0])
        longest.append(int(np.sum(kept)))
    assert longest == [9, 6, 6, 2, 2]


@pytest.mark.parametrize(
    "name, field, value",
    [
        ("soft_overlong", "overlong_buffer", 0),
        ("soft_overlong", "overlong_length", 0),
        ("soft_overlong", "overlong_buffer", 11),
        ("soft_overlong", "overlong_penalty", -0.5),
        ("difficulty_truncation", "difficulty_thresholds", (0.5, 0.4)),
        ("difficulty_truncation", "difficulty_thresholds", (1.0,)),
        ("difficulty_truncation", "difficulty_lengths", (4000,)),
        ("difficulty_truncation", "difficulty_lengths", (2000, 4000)),
        ("difficulty_truncation", "difficulty_lengths", (10, 0)),
        ("token_budget", "first_budget", 0),
        ("token_budget", "least_budget", 0),
        ("token_budget", "budget_decay", 0.0),
        ("token_budget", "budget_share", 1.5),
    ],
)
def test_fields_out_of_range_are_named(name, field, value):
    with pytest.raises(ValueError, match=field):
        shaped(name, **{field: value})


@pytest.mark.parametrize(
    "progress, fields, budget",
    [
        (0.0, {}, 800),
        (1.0, {}, 160),  # the paper's: the least budget of 1 never binds
        (0.5, {}, 357),  # 800 / sqrt(5) = 357.77
        (1.0, dict(first_budget=4, least_budget=3), 3),
    ],
)
def test_the_budget_shrinks_geometrically(progress, fields, budget):
    assert int(thinking_budget(jnp.float32(progress), **fields)) == budget


def test_lengths_near_the_budget_are_rewarded():
    """Of a budget of 4: nothing at 0 and from 8 on, all at 4, and a line in between."""
    lengths = np.array([0, 2, 4, 5, 8, 10])
    changes = {
        "scores": np.array([0, 0, 0, 0, 0, 1], np.float32),
        "mask": np.arange(10) < lengths[:, None],
        "progress": np.float32(0.0),
    }
    found = shaped("token_budget", changes, first_budget=4, budget_share=0.25)
    np.testing.assert_allclose(found, [0, 0.125, 0.25, 0.1875, 0, 0.75], atol=1e-6)


def test_the_entropy_reward_is_minus_the_mean_over_tokens():
    vocabulary = 7
    uniform = jnp.full((1, vocabulary), 1 / vocabulary)
    entropy = float(jax.scipy.special.entr(uniform).sum())
    changes = {
        "mask": np.array([[True, True, False], [True, False, False], [False] * 3]),
        "old_entropy": np.array([[entropy, 0.0, np.nan], [entropy, 9.0, np.inf], [5.0] * 3]),
    }
    got = shaped("negative_entropy", changes)
    np.testing.assert_allclose(got, [-np.log(7) / 2, -np.log(7), 0.0], rtol=1e-5)
    deterministic = changes | {"old_entropy": np.zeros((3, 3))}
    np.testing.assert_array_equal(shaped("negative_entropy", deterministic), 0.0)


@pytest.mark.parametrize("name", REWARD_SHAPINGS)
def test_scores_are_constants(name):
    part = REWARD_SHAPINGS[name]
    names = inputs_of(part)

    def total(arrays):
        return part(*(arrays[key] for key in names)).sum()

    floats = {key: ARRAYS[key] for key in names if ARRAYS[key].dtype == np.float32}
    others = {key: ARRAYS[key] for key in names if key not in floats}
    gradients = jax.grad(lambda given: total(given | others))(floats)
    assert floats and all(not np.asarray(g).any() for g in gradients.values())


def test_shorter_right_samples_are_preferred_within_a_prompt():
    """Lengths 2, 5, 6, 7 and 8, 9, 10, 3; wrong ones gain nothing by being short."""
    bonus = [
        0.5,
        min(0, 0.5 - 3 / 5),
        0.5 - 4 / 5,
        -0.5,
        min(0, 0.5 - 5 / 7),
        0.5 - 6 / 7,
        -0.5,
        0.5,
    ]
    np.testing.assert_allclose(shaped("relative_length"), ARRAYS["scores"] + bonus, rtol=1e-6)
    half = shaped("relative_length", length_weight=0.5)
    np.testing.assert_allclose(half, ARRAYS["scores"] + np.array(bonus) / 2, rtol=1e-6)


def test_equal_lengths_and_empty_rows_change_no_score():
    mask = np.ones((8, 10), bool)
    mask[3] = False  # a slot without a sample is not the shortest one
    np.testing.assert_array_equal(shaped("relative_length", {"mask": mask}), ARRAYS["scores"])
