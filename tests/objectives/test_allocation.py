"""Successive elimination: who leaves, what is kept, and what it is compared with."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.advantages.pooled import pool_mean, pool_statistics
from rljax.objectives.allocation import kept_places, kept_right, leaves, successive


def test_a_prompt_leaves_with_one_right_sample_or_with_half_a_group_of_each():
    right, wrong = jnp.array([0, 1, 2, 5]), jnp.array([8, 7, 6, 1])
    assert leaves(right, wrong, 4, "positive").tolist() == [False, True, True, True]
    assert leaves(right, wrong, 4, "balanced").tolist() == [False, False, True, False]


def plain_kept(right, wrong, group):
    """The counts as the paper's code has them for prompts that left."""
    kept = min(group // 2, right)
    others = min(group - kept, wrong)
    if kept + others < group and right > kept:
        kept += min(right - kept, group - kept - others)
    return kept


def test_a_group_is_half_right_and_filled_from_the_other_kind():
    cases = [(r, w) for r, w in itertools.product(range(9), range(9)) if r + w >= 5]
    right, wrong = (jnp.array(side) for side in zip(*cases, strict=True))
    for group in (4, 5):
        kept = kept_right(right, wrong, group)
        assert kept.tolist() == [plain_kept(r, w, group) for r, w in cases]
        # A pool with both kinds keeps at least one of each.
        mixed = (right > 0) & (wrong > 0)
        assert bool((~mixed | ((kept > 0) & (kept < group))).all())


def test_the_first_of_each_kind_are_kept():
    correct = jnp.array([[False, True, True, False, True, False]])
    drawn = jnp.array([[True, False, True, True, True, True]])
    assert kept_places(correct, drawn, jnp.array([1]), 3).tolist() == [[2, 0, 3]]
    assert kept_places(correct, drawn, jnp.array([2]), 4).tolist() == [[2, 4, 0, 3]]


def test_the_baseline_is_the_pool_not_the_balanced_group():
    mask = jnp.ones((4, 1), bool)
    rewards = jnp.array([[1.0], [1.0], [0.0], [0.0]])
    scores = np.zeros((1, 20))
    scores[0, :2], scores[0, 16:] = 1, 9
    pools = [x.repeat(4) for x in pool_statistics(jnp.asarray(scores), jnp.arange(20)[None] < 16)]
    advantages = pool_mean(rewards, mask, *pools)
    np.testing.assert_allclose(advantages[:, 0], [0.875, 0.875, -0.125, -0.125])
    deviation = np.std([1] * 2 + [0] * 14, ddof=1)
    divided = pool_mean(rewards, mask, *pools, divide_by_pool_deviation=True)
    np.testing.assert_allclose(divided[:, 0], advantages[:, 0] / deviation, rtol=1e-5)
    # Whatever the scale of rewards, a pool of one kind has no advantage; one sample is no pool.
    means, deviations = pool_statistics(
        jnp.full((2, 4), -1.0), jnp.array([[True] * 4, [True] + 3 * [False]])
    )
    assert means.tolist() == [-1, 0] and deviations.tolist() == [0, 1]
    assert not pool_mean(-jnp.ones((1, 1)), mask[:1], means[:1], deviations[:1]).any()


def test_fields_are_checked():
    with pytest.raises(ValueError, match="allocation_exit is 'first'"):
        successive(allocation_exit="first")
    with pytest.raises(ValueError, match="round_samples is 0"):
        successive(round_samples=0)
