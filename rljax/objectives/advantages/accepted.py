"""Right samples that weigh as much as their prompt, however many of them there are (GVM)."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, group_statistics, group_sum, scores_of


def accepted_mean(token_rewards: Array, mask: Array, group_ids: Array) -> Array:
    """A = (N / m) r+ / (sum of r+ over the prompt's samples), r+ = max(score, 0).

    With a sum over tokens and a mean over the N samples the gradient is then

        (1 / m) sum over prompts of the mean over its right samples of grad log pi

    the estimate whose variance an allocation of samples is chosen for (GVM-RAFT,
    arXiv:2505.02391): prompts that were sampled more often do not weigh more.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32; m counts the prompts with a positive score.

    Returns:
        [N, T] f32, constant, zero outside the mask.
    """
    scores, present = scores_of(token_rewards, mask, group_ids)
    right = jnp.where(present, jnp.maximum(scores, 0.0), 0.0)
    segment = group_statistics(scores, present, group_ids).segment
    total = group_sum(right, segment)
    share = right / jnp.where(total > 0, total, 1.0)
    samples, prompts = present.sum(), share.sum()
    return broadcast(share * samples / jnp.maximum(prompts, 1.0), mask)
