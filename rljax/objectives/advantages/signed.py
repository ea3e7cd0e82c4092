"""Learning from right samples, from wrong samples, or from both, each with its own weight."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import broadcast, scores_of
from rljax.objectives.parts import check_field

SIGNS = ("both", "negative", "positive")


def signed_outcome(
    token_rewards: Array,
    mask: Array,
    correct: Array,
    *,
    positive_weight: float = 0.1,
    negative_weight: float = 1.0,
    right_score: float = 1.0,
) -> Array:
    """Rewards right samples and punishes wrong ones, without a baseline (arXiv:2506.01347).

        A = positive_weight * score                   of a right row
        A = negative_weight * (score - right_score)   of a wrong row

    With scores of 1 and 0, the weights (1, 0) are positive sample reinforcement (PSR), (0, 1)
    negative sample reinforcement (NSR) and (0.1, 1) weighted REINFORCE. Groups whose samples all
    agree are trained on too: keep them in the batch.

    Args:
        token_rewards: [N, T] f32, whose sum over a row is its score.
        mask: [N, T] bool.
        correct: [N] bool.
        positive_weight: factor of the advantages of right rows, >= 0.
        negative_weight: factor of the advantages of wrong rows, >= 0.
        right_score: score of a right row, with which wrong ones are compared; by default `right_at`
            of config.scoring.rewards.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a negative weight.
    """
    check_field("positive_weight", positive_weight, lambda x: x >= 0, ">= 0")
    check_field("negative_weight", negative_weight, lambda x: x >= 0, ">= 0")
    scores, _ = scores_of(token_rewards, mask)
    chex.assert_equal_shape([scores, correct])
    short = scores - right_score
    return broadcast(jnp.where(correct, positive_weight * scores, negative_weight * short), mask)


def keep_sign(advantages: Array, sign: str) -> Array:
    """Drops the advantages of the other sign, after all statistics (GRPO-N, arXiv:2510.04028).

    "negative" is relative negative training, A <- min(A, 0): what is worse than its group is pushed
    down, nothing is pushed up. The dropped rows stay in the mask: the divisor of the loss, and so
    the loss of the other rows, does not change.

    Args:
        advantages: [N, T] f32.
        sign: "both", "negative" or "positive".

    Returns:
        [N, T] f32, constant.

    Raises:
        ValueError: for another sign.
    """
    check_field("advantage_sign", sign, lambda x: x in SIGNS, f"one of {', '.join(SIGNS)}")
    advantages = jax.lax.stop_gradient(advantages)
    if sign == "negative":
        return jnp.minimum(advantages, 0.0)
    return jnp.maximum(advantages, 0.0) if sign == "positive" else advantages
