"""Parts of a model's reward against hand values."""

import numpy as np
import pytest

from rljax.training.collect.model_scores import ScoreParts, reference_statistics

SCORES, LENGTHS = np.array([1.0, 3.0, -2.0, 6.0], np.float32), np.array([1, 2, 3, 10])


def test_without_parts_the_reward_is_the_score():
    np.testing.assert_array_equal(ScoreParts()(SCORES[None], LENGTHS), SCORES)


def test_each_part_by_hand():
    centred = (SCORES - 2.0) / np.std(SCORES, ddof=1)
    np.testing.assert_allclose(ScoreParts("whiten")(SCORES[None], LENGTHS), centred, rtol=1e-5)
    moved = ScoreParts("reference", means=(1.0,), deviations=(2.0,))
    np.testing.assert_allclose(moved(SCORES[None], LENGTHS), [0, 1, -1.5, 2.5])
    np.testing.assert_array_equal(ScoreParts(clip=2.5)(SCORES[None], LENGTHS), [1, 2.5, -2, 2.5])
    short = ScoreParts(length_penalty=0.5)
    np.testing.assert_array_equal(short(SCORES[None], LENGTHS), [0.5, 2, -3.5, 1])


def test_their_order():
    """Normalised, then clipped; the penalty is neither."""
    parts = ScoreParts("reference", means=(1.0,), deviations=(2.0,), clip=1.0, length_penalty=1.0)
    np.testing.assert_allclose(parts(SCORES[None], LENGTHS), [-1, -1, -4, -9])


def test_scores_that_agree_are_whitened_to_zero():
    np.testing.assert_array_equal(ScoreParts("whiten")(np.full((1, 3), 7.0), LENGTHS[:3]), 0)


def test_an_ensemble_is_its_mean_its_lowest_or_less_where_it_disagrees():
    scores = np.stack([SCORES, SCORES + np.array([2.0, 0.0, -4.0, 0.0], np.float32)])
    found = {
        how: ScoreParts(ensemble=how, ensemble_weight=0.5)(scores, LENGTHS)
        for how in ("mean", "min", "mean_minus_deviation")
    }
    np.testing.assert_allclose(found["mean"], [2, 3, -4, 6])
    np.testing.assert_allclose(found["min"], [1, 3, -6, 6])
    np.testing.assert_allclose(found["mean_minus_deviation"], [1.5, 3, -5, 6])


def test_each_model_of_an_ensemble_is_normalised_by_itself():
    scores = np.stack([SCORES, 10 * SCORES + 5])
    parts = ScoreParts("reference", means=(2.0, 25.0), deviations=(2.0, 20.0), ensemble="min")
    np.testing.assert_allclose(parts.normalised(scores)[1], (SCORES - 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(parts(scores, LENGTHS), (SCORES - 2) / 2, rtol=1e-6)
    white = ScoreParts("whiten").normalised(scores)
    np.testing.assert_allclose(white[0], white[1], rtol=1e-5)
    # What they say is clipped once it is one score.
    one = ScoreParts(ensemble="mean", clip=2.0)(np.array([[5.0], [-1.0]]), np.ones(1))
    np.testing.assert_array_equal(one, [2.0])


def test_reference_completions_give_mean_and_deviation():
    mean, deviation = reference_statistics(SCORES, "config.x")
    assert (mean, deviation) == (2.0, pytest.approx(np.std(SCORES)))
    with pytest.raises(ValueError, match=r"all have the score 1.0.*\(config.x\)"):
        reference_statistics(np.ones(3), "config.x")
