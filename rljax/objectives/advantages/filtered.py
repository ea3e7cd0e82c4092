"""Samples that are better than their group's mean, and nothing else (the filter of VSC-RL)."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, group_statistics, scores_of


def better_than_group(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """1 for samples above their group's mean, 0 for others: filtered behaviour cloning.

    The limit of exp(A / temperature), clipped at 1, for a temperature of 0: by how much a sample is
    better does not count. VSC-RL (arXiv:2502.07949) has a critic's advantage of each action where
    this has the group's mean, and imitation of a reference agent besides.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.

    Returns:
        [N, T] f32, constant, zero outside the mask and in groups whose samples agree.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    # A score that is the mean but for rounding is not above it.
    above = scores - group.mean > 1e-6 * jnp.abs(group.mean)
    return broadcast(above.astype(jnp.float32), mask)
