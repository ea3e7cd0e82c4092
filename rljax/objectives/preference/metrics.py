"""What a run logs of its pairs, its groups, its rated completions.

B prompts, K sides of each; side 0 of a pair is the chosen one.
"""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.preference.group_estimators import group_means


def score_rewards(side_scores: Array, *, beta: float = 1.0) -> dict[str, Array]:
    """Rewards that the policy assigns to the sides: beta times their scores.

    Args:
        side_scores: [B, K] f32.
        beta: scale of the reward; 1 where the link has no such field.

    Returns:
        [B] each: `reward_chosen`, `reward_rejected` (mean of the other sides), `reward_margin`
        (their difference) and `reward_accuracy` (chosen above all others, strictly).
    """
    return _compared(beta * side_scores)


def log_ratio_rewards(
    sequence_logprobs: Array, ref_sequence_logprobs: Array, *, beta: float = 1.0
) -> dict[str, Array]:
    """As `score_rewards`, where there is a reference: beta times the log-ratio, whatever the score.

    Args:
        sequence_logprobs: [B, K] f32.
        ref_sequence_logprobs: [B, K] f32, under the frozen reference.
        beta: scale of the reward; 1 where the link has no such field.
    """
    return _compared(beta * (sequence_logprobs - ref_sequence_logprobs))


def _compared(rewards: Array) -> dict[str, Array]:
    chosen, others = rewards[:, 0], rewards[:, 1:]
    rejected = others.mean(axis=1)
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": chosen > others.max(axis=1),
    }


def ranking(sequence_logprobs: Array) -> dict[str, Array]:
    """How likely the sides are to the policy.

    Args:
        sequence_logprobs: [B, K] f32.

    Returns:
        [B] each: `logprob_chosen`, `logprob_rejected` (mean of the other sides) and
        `ranking_accuracy` (the chosen completion is more likely than all others, strictly).
    """
    chosen, others = sequence_logprobs[:, 0], sequence_logprobs[:, 1:]
    return {
        "logprob_chosen": chosen,
        "logprob_rejected": others.mean(axis=1),
        "ranking_accuracy": chosen > others.max(axis=1),
    }


def displacement(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> dict[str, Array]:
    """`displaced_share`: the chosen completion became less likely than under the reference.

    Args:
        sequence_logprobs: [B, K] f32.
        ref_sequence_logprobs: [B, K] f32, under the frozen reference.
    """
    return {"displaced_share": sequence_logprobs[:, 0] < ref_sequence_logprobs[:, 0]}


# A metric is logged where the arrays that it names are there; a later one replaces an earlier one
# of the same name. Metrics never bring in an array: only scores and links do.
METRICS = (score_rewards, log_ratio_rewards, ranking, displacement)


def group_rewards(
    side_scores: Array, chosen_sides: Array, present: Array, *, beta: float = 1.0
) -> dict[str, Array]:
    """Rewards that the policy assigns to two groups: beta times the mean scores of their members.

    Args:
        side_scores: [B, K] f32.
        chosen_sides: [B, K] bool, the completion is of the preferred group.
        present: [B, K] bool, there is such a completion.
        beta: scale of the reward; 1 where the link has no such field.

    Returns:
        [B] each, as `score_rewards`; `reward_accuracy` compares the means.
    """
    chosen, rejected = group_means(beta * side_scores, chosen_sides, present)
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": chosen > rejected,
    }


def group_ranking(
    sequence_logprobs: Array, chosen_sides: Array, present: Array
) -> dict[str, Array]:
    """As `ranking`, of the means of two groups.

    Args:
        sequence_logprobs: [B, K] f32.
        chosen_sides: [B, K] bool, the completion is of the preferred group.
        present: [B, K] bool, there is such a completion.
    """
    chosen, rejected = group_means(sequence_logprobs, chosen_sides, present)
    return {
        "logprob_chosen": chosen,
        "logprob_rejected": rejected,
        "ranking_accuracy": chosen > rejected,
    }


GROUP_METRICS = (group_rewards, group_ranking)


def rated_agreement(
    side_scores: Array, ratings: Array, present: Array, *, beta: float = 1.0
) -> dict[str, Array]:
    """How near the policy's rewards are to the ratings of a prompt's completions.

    Args:
        side_scores: [B, K] f32.
        ratings: [B, K] f32.
        present: [B, K] bool, there is such a completion.
        beta: scale of the reward.

    Returns:
        [B] each: `reward_accuracy`, the share of pairs of different ratings whose rewards are in
        that order, strictly (1 where all ratings are equal); `regularised_reward`, the mean of
        rating - beta * score, and `regularised_spread`, its standard deviation over the prompt,
        which is 0 at the optimum of `contrastive`.
    """
    better = ratings[:, :, None] > ratings[:, None, :]
    pairs = better & present[:, :, None] & present[:, None, :]
    right = pairs & (side_scores[:, :, None] > side_scores[:, None, :])
    count = jnp.maximum(present.sum(axis=-1), 1)
    regularised = jnp.where(present, ratings - beta * side_scores, 0.0)
    mean = regularised.sum(axis=-1) / count
    squares = jnp.where(present, jnp.square(regularised - mean[:, None]), 0.0).sum(axis=-1)
    total = pairs.sum(axis=(1, 2))
    return {
        "reward_accuracy": jnp.where(total > 0, right.sum(axis=(1, 2)) / jnp.maximum(total, 1), 1),
        "regularised_reward": mean,
        "regularised_spread": jnp.sqrt(squares / count),
    }


RATED_METRICS = (rated_agreement,)
