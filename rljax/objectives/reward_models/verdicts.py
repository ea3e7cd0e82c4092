"""Losses of language models that judge by their next token (generative rewards)."""

import chex
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def verdict(
    good_logprobs: Array, bad_logprobs: Array, labels: Array, present: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Negative log-likelihood of the right verdict behind a completion and a question.

        loss = -log p(good token)    where the label is good, else    -log p(bad token)

    This is next-token prediction of the verdict, as generative verifiers learn it
    (arXiv:2408.15240, section 3.1). The score is log p(good) - log p(bad): at the optimum its
    sigmoid is the share of good labels of such a completion.

    Args:
        good_logprobs: [B, K] f32, over the whole vocabulary, differentiated.
        bad_logprobs: [B, K] f32, the same.
        labels: [B, K] bool.
        present: [B, K] bool; a completion that is not there counts nowhere.

    Returns:
        [B] loss, the mean over a prompt's completions, 0 without any; metrics over completions:
        `reward_accuracy` (the score is positive exactly where the label is good), `score_mean`,
        `positive_share` and `verdict_share`, the probability of both verdicts together.
    """
    chex.assert_equal_shape([good_logprobs, bad_logprobs, labels, present])
    each = -jnp.where(labels, good_logprobs, bad_logprobs)
    loss = jnp.where(present, each, 0.0).sum(axis=1) / jnp.maximum(present.sum(axis=1), 1)
    score = good_logprobs - bad_logprobs
    logged = {
        "reward_accuracy": (score > 0) == labels,
        "score_mean": score,
        "positive_share": labels,
        "verdict_share": jnp.exp(good_logprobs) + jnp.exp(bad_logprobs),
    }
    return loss, {name: masked(values, present) for name, values in logged.items()}
