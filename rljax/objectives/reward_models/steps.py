"""Losses of reward models on the steps of an answer: each is right, or not (process rewards)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def step_binary(
    step_scores: Array,
    step_labels: Array,
    step_ends: Array,
    mean_steps: Array,
    *,
    last_step_only: bool = False,
) -> tuple[Array, dict[str, SumCount]]:
    """Cross-entropy of sigmoid(score at the end of a step) with the label of the step.

        loss = -(1 / n) sum over steps of ( c log sigmoid(r) + (1 - c) log sigmoid(-r) )

    n is the mean number of steps of an answer of the batch, so that the mean over answers is the
    mean over all steps of the batch, as in TRL. Its two logits a token are the same as one score,
    their difference.

    Args:
        step_scores: [B, K, T] f32, r of every token, differentiated.
        step_labels: [B, K, T] bool, c, read where a step ends.
        step_ends: [B, K, T] bool, True on the last token of each step.
        mean_steps: [B] f32, n, the same for all.
        last_step_only: learn the last step alone, which makes an outcome reward of it; n is 1.

    Returns:
        [B] loss; metrics over the steps that are learned: `reward_accuracy` (score > 0 exactly
        where the step is right), `score_mean` and `positive_share`.
    """
    chex.assert_equal_shape([step_scores, step_labels, step_ends])
    learned = last_steps(step_ends) if last_step_only else step_ends
    each = -jax.nn.log_sigmoid(jnp.where(step_labels, step_scores, -step_scores))
    count = 1.0 if last_step_only else mean_steps
    loss = jnp.where(learned, each, 0.0).sum(axis=(1, 2)) / count
    logged = {
        "reward_accuracy": (step_scores > 0) == step_labels,
        "score_mean": step_scores,
        "positive_share": step_labels,
    }
    return loss, {name: masked(values, learned) for name, values in logged.items()}


def last_steps(step_ends: Array) -> Array:
    """The end of the last step alone.

    Args:
        step_ends: [..., T] bool.
    """
    behind = jnp.cumsum(step_ends[..., ::-1], axis=-1)[..., ::-1]
    return step_ends & (behind == 1)
