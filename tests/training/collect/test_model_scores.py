"""Parts of a model's reward against hand values."""

import numpy as np
import pytest

from rljax.training.collect.model_scores import ScoreParts, reference_statistics

SCORES, LENGTHS = np.array([1.0, 3.0, -2.0, 6.0], np.float32), np.array([1, 2, 3, 10])


def test_without_parts_the_reward_is_the_score():
    np.testing.assert_array_equal(ScoreParts()(SCORES, LENGTHS), SCORES)


def test_each_part_by_hand():
    centred = (SCORES - 2.0) / np.std(SCORES, ddof=1)
    np.testing.assert_allclose(ScoreParts("whiten")(SCORES, LENGTHS), centred, rtol=1e-5)
    moved = ScoreParts("reference", mean=1.0, deviation=2.0)
    np.testing.assert_allclose(moved(SCORES, LENGTHS), [0, 1, -1.5, 2.5])
    np.testing.assert_array_equal(ScoreParts(clip=2.5)(SCORES, LENGTHS), [1, 2.5, -2, 2.5])
    short = ScoreParts(length_penalty=0.5)
    np.testing.assert_array_equal(short(SCORES, LENGTHS), [0.5, 2, -3.5, 1])


def test_their_order():
    """Normalised, then clipped; the penalty is neither."""
    parts = ScoreParts("reference", mean=1.0, deviation=2.0, clip=1.0, length_penalty=1.0)
    np.testing.assert_allclose(parts(SCORES, LENGTHS), [-1, -1, -4, -9])


def test_scores_that_agree_are_whitened_to_zero():
    np.testing.assert_array_equal(ScoreParts("whiten")(np.full(3, 7.0), LENGTHS[:3]), 0)


def test_reference_completions_give_mean_and_deviation():
    mean, deviation = reference_statistics(SCORES, "config.x")
    assert (mean, deviation) == (2.0, pytest.approx(np.std(SCORES)))
    with pytest.raises(ValueError, match=r"all have the score 1.0.*\(config.x\)"):
        reference_statistics(np.ones(3), "config.x")
