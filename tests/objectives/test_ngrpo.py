import functools

import jax
import numpy as np
import pytest

from rljax.objectives.advantages import ADVANTAGES

GROUPS = np.zeros(8, int)
MASK = np.ones((8, 1), bool)
VIRTUAL = jax.jit(ADVANTAGES["group_zscore_virtual"])


def advantages(scores, **fields):
    """[8] of one group."""
    scores = np.asarray(scores, np.float32)[:, None]
    return np.asarray(VIRTUAL(scores, MASK, GROUPS, **fields))[:, 0]


@pytest.mark.parametrize("k", range(9))
def test_closed_forms_of_binary_rewards(k):
    scores = np.arange(8) < k
    mean = (k + 1) / 9
    deviation = np.sqrt(9 / 8 * mean * (1 - mean))
    expected = (scores - mean) / (deviation + 1e-6) if k < 8 else np.zeros(8)
    got = advantages(scores)
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    if k < 8:
        np.testing.assert_allclose(got.sum(), -(1 - mean) / deviation, rtol=2e-5)
    if k == 0:
        np.testing.assert_allclose(got, -1 / 3, rtol=2e-5)
    if k == 1:
        np.testing.assert_allclose(got[:2], [1.76, -0.50], atol=0.01)


def test_without_virtual_samples_it_is_the_zscore():
    scores = np.array([0.1, 0.9, 0.3, 0.3, 1.0, 0.0, 0.0, 0.2], np.float32)
    expected = ADVANTAGES["group_zscore"](scores[:, None], MASK, GROUPS)[:, 0]
    np.testing.assert_allclose(advantages(scores, virtual_samples=0), expected, rtol=1e-5)
    np.testing.assert_array_equal(advantages(np.full(8, 0.1), virtual_samples=0), 0.0)


@pytest.mark.parametrize("count, best", [(1, 1.0), (2, 1.0), (3, 2.5)])
def test_virtual_samples_enter_the_statistics_only(count, best):
    scores = np.array([0.1, 0.9, 0.3, 0.3, 1.0, 0.0, 0.0, 0.2])
    values = np.concatenate([scores, np.full(count, best)])
    expected = (scores - values.mean()) / (values.std(ddof=1) + 1e-6)
    got = advantages(scores, virtual_samples=count, virtual_score=best)
    np.testing.assert_allclose(got, expected, rtol=2e-5)


def test_a_higher_best_score_lowers_the_best_sample():
    scores = np.arange(8) < 3
    best = [advantages(scores, virtual_score=v)[0] for v in (1.0, 1.5, 2.0, 4.0)]
    assert np.all(np.diff(best) < 0)


def signed(positive, negative, scores, correct):
    part = functools.partial(
        ADVANTAGES["signed_outcome"], positive_weight=positive, negative_weight=negative
    )
    return np.asarray(part(np.asarray(scores, np.float32)[:, None], MASK, np.asarray(correct)))


def test_positive_negative_and_weighted_reinforcement():
    right = np.arange(8) < 3
    scores = right.astype(float)
    positive, negative = signed(1, 0, scores, right), signed(0, 1, scores, right)
    np.testing.assert_allclose(positive[:, 0], scores)
    np.testing.assert_allclose(negative[:, 0], scores - 1)
    np.testing.assert_allclose(signed(0.1, 1, scores, right)[:, 0], np.where(right, 0.1, -1.0))
    # lambda = 1: r - 1[wrong], the sum of both.
    np.testing.assert_allclose(signed(1, 1, scores, right), positive + negative)
    np.testing.assert_allclose((positive + negative)[:, 0], scores - ~right)
