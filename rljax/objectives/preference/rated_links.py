"""Losses on the completions of a prompt of which each has a score of the data's own, its rating.

B prompts, K completions of each, of any policy: no importance weights, no critic.
"""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field


def contrastive(side_scores: Array, ratings: Array, present: Array, *, beta: float = 0.06) -> Array:
    """Contrastive policy gradient: ratings are matched by differences of log-ratios (CoPG).

        R_i  = rating_i - beta * (log policy(y_i) - log reference(y_i))
        loss = 1 / (2 beta) * 1 / (k - 1) * sum_{i > j} (R_i - R_j)^2

    CoPG is arXiv:2406.19185, its form of k samples that of Cohere's Command A. Of two completions
    the loss is (dR - beta D)^2 / (2 beta), whose gradient is that of minus the paper's objective;
    the report's form of k samples lacks the factor 1 / (2 beta), so that the two agree here. The
    gradient is that of RLOO with the KL inside the reward, summed over the prompt's k samples where
    RLOO takes the mean over all samples (`copg_on_policy`):

        - sum_i (R_i - mean of the others' R) * grad log policy(y_i)

    Its only minimum is reference * exp(rating / beta) / Z, whoever wrote the completions, as long
    as they cover what the reference can say. A prompt whose ratings are equal is used as well: it
    pulls the log-ratios together. Ratings are taken as they are; whitening them would give every
    prompt a beta of its own. The sums are over tokens: means would have another minimum.

    Args:
        side_scores: [B, K] f32, log-ratios to the reference, differentiated.
        ratings: [B, K] f32.
        present: [B, K] bool, there is such a completion.
        beta: strength of the KL to the reference; stable between 0.03 and 0.1 in the paper.

    Returns:
        [B] f32, at least 0; 0 of a prompt with a single completion.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    count = jnp.maximum(present.sum(axis=-1), 1).astype(side_scores.dtype)
    regularised = jnp.where(present, ratings - beta * side_scores, 0.0)
    mean = regularised.sum(axis=-1) / count
    # sum_{i > j} (R_i - R_j)^2 = k sum_i (R_i - mean)^2.
    squares = jnp.where(present, jnp.square(regularised - mean[:, None]), 0.0).sum(axis=-1)
    return count / jnp.maximum(count - 1.0, 1.0) * squares / (2.0 * beta)


RATED_LINKS = {"contrastive": contrastive}
