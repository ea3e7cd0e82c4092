"""Losses of reward models on labelled completions: good, or not."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field


def binary(
    side_scores: Array, labels: Array, present: Array, *, positive_weight: float = 1.0
) -> tuple[Array, dict[str, SumCount]]:
    """Cross-entropy of sigmoid(score) with the label (P[Love] of RLUF, arXiv:2505.14946).

        loss = -(p * c * log sigmoid(r) + (1 - c) * log sigmoid(-r)),    c = 1 where it is good

    At the optimum with p = 1, sigmoid(r) is the share of good labels of such a completion. A
    weight of the rare label, p = negatives / positives say, balances the classes, and shifts the
    scores by log p. How the paper balances them was not published.

    Args:
        side_scores: [B, K] f32, r, differentiated.
        labels: [B, K] bool, c.
        present: [B, K] bool; a completion that is not there counts nowhere.
        positive_weight: p, factor of the loss of completions that are good.

    Returns:
        [B] loss, the mean over a prompt's completions, 0 without any; and metrics over
        completions: `reward_accuracy` (score > 0 exactly where the label is good), `score_mean`
        and `positive_share`.

    Raises:
        ValueError: for a weight that is not positive.
    """
    check_field("positive_weight", positive_weight, lambda x: x > 0, "> 0")
    chex.assert_equal_shape([side_scores, labels, present])
    good, bad = -jax.nn.log_sigmoid(side_scores), -jax.nn.log_sigmoid(-side_scores)
    each = jnp.where(labels, positive_weight * good, bad)
    loss = jnp.where(present, each, 0.0).sum(axis=1) / jnp.maximum(present.sum(axis=1), 1)
    logged = {
        "reward_accuracy": (side_scores > 0) == labels,
        "score_mean": side_scores,
        "positive_share": labels,
    }
    return loss, {name: masked(values, present) for name, values in logged.items()}
