"""A group z-score with virtual samples that solved the prompt."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_statistics,
    group_sum,
    scores_of,
)
from rljax.objectives.means import ratio
from rljax.objectives.parts import check_field


def group_zscore_virtual(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    virtual_samples: int = 1,
    virtual_score: float = 1.0,
    advantage_epsilon: float = 1e-6,
) -> Array:
    """(score - m) / (s + epsilon), V virtual best samples in m and s (NGRPO, arXiv:2509.18851).

        m = (sum of scores + V * best) / (G + V)
        s = unbiased deviation of the G + V values, divisor G + V - 1

    A group without a right sample then has negative advantages instead of zeros: for V = 1 each is
    -1 / sqrt(G + 1). The deviation follows the authors' code; eq. 6 as printed divides by G + 1.
    V = 0 is the group z-score.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        virtual_samples: best samples that are added to the statistics of each group, V >= 0.
        virtual_score: score of the virtual samples, the largest that a sample can get, after
            shaping; by default that of a right sample (`right_at` of config.scoring.rewards).
        advantage_epsilon: added to the deviation.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all values of a group agree,
        the virtual ones among them. A group of one takes mean 0 and deviation 1, so it keeps its
        score up to epsilon.

    Raises:
        ValueError: for a negative number of samples or epsilon.
    """
    check_field("virtual_samples", virtual_samples, lambda x: x >= 0, ">= 0")
    check_field("advantage_epsilon", advantage_epsilon, lambda x: x >= 0, ">= 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    size = group.size + virtual_samples
    mean = (group.size * group.mean + virtual_samples * virtual_score) / jnp.maximum(size, 1.0)
    squares = group_sum(jnp.where(present, (scores - mean) ** 2, 0.0), group.segment)
    squares = squares + virtual_samples * (virtual_score - mean) ** 2
    deviation = jnp.sqrt(squares / jnp.maximum(size - 1.0, 1.0))
    agree = group.homogeneous & ((virtual_samples == 0) | (scores == virtual_score))
    centred = jnp.where(agree, 0.0, scores - mean)
    alone = group.size == 1
    numerator = jnp.where(alone, scores, centred)
    deviation = jnp.where(alone, 1.0, deviation)
    return broadcast(ratio(numerator, deviation + advantage_epsilon), mask)
