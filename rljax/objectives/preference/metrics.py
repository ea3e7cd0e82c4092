"""What a run logs of its pairs: rewards, likelihoods, displacement.

B pairs, K sides of each; side 0 is the chosen one.
"""

from jax import Array


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
