"""What is known of a completion, as a number: its score. Losses compare the scores of the sides.

B pairs, K sides of each, T completion slots.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field
from rljax.objectives.preference.divergences import DIVERGENCES, power


def log_ratio(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    """log policy(y) - log reference(y) of whole completions (DPO, arXiv:2305.18290, eq. 5).

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.

    Returns:
        [B, K] f32.
    """
    return sequence_logprobs - jax.lax.stop_gradient(ref_sequence_logprobs)


def length_desensitised(
    mask: Array, logprobs: Array, ref_logprobs: Array, *, tail_weight: float = 0.5
) -> Array:
    """`log_ratio` in which tokens beyond the shorter side count less (LD-DPO, arXiv:2409.06411).

        n = length of the pair's shortest side
        s = sum of the first n tokens + tail_weight * sum of the others,  policy - reference

    A tail weight of 1 is DPO; 0 cuts all sides to the length of the shortest.

    Args:
        mask: [B, K, T] bool.
        logprobs: [B, K, T] f32, differentiated.
        ref_logprobs: [B, K, T] f32, under the frozen reference; constant.
        tail_weight: factor of the tokens beyond the shorter side, in [0, 1].

    Returns:
        [B, K] f32.

    Raises:
        ValueError: if `tail_weight` lies outside [0, 1].
    """
    check_field("tail_weight", tail_weight, lambda x: 0 <= x <= 1, "in [0, 1]")
    shortest = mask.sum(axis=-1).min(axis=-1)[:, None, None]
    weights = jnp.where(jnp.cumsum(mask, axis=-1) <= shortest, 1.0, tail_weight)
    ratios = jnp.where(mask, logprobs - jax.lax.stop_gradient(ref_logprobs), 0.0)
    return (weights * ratios).sum(axis=-1)


def log_likelihood(sequence_logprobs: Array) -> Array:
    """log policy(y): the policy's own log-probability is the reward (GenARM, arXiv:2410.08193).

    DPO without a reference, so that the reward of a text is a sum over its tokens. Longer
    completions therefore weigh more.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.

    Returns:
        [B, K] f32.
    """
    return sequence_logprobs


def mean_log_likelihood(sequence_logprobs: Array, lengths: Array) -> Array:
    """log policy(y) / |y|: the log-probability of a token, on average (SimPO, arXiv:2405.14734).

    It is what ranks completions where text is generated, and no length is favoured.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        lengths: [B, K] f32, tokens of the completion, at least 1.

    Returns:
        [B, K] f32.
    """
    return sequence_logprobs / lengths


def alpha_likelihood(sequence_logprobs: Array, lengths: Array, *, alpha: float = 0.25) -> Array:
    """A power of the mean token's probability as the reward (AlphaPO, arXiv:2501.03884).

        p = exp(log policy(y) / |y|),    s = (1 - p^-alpha) / alpha

    An alpha of 0 is its limit, log p: SimPO.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        lengths: [B, K] f32, tokens of the completion, at least 1.
        alpha: shape of the reward; 0.25 in the paper.

    Returns:
        [B, K] f32.
    """
    return power(-alpha, sequence_logprobs / lengths)


SCORES = {
    "log_ratio": log_ratio,
    "length_desensitised": length_desensitised,
    "log_likelihood": log_likelihood,
    "mean_log_likelihood": mean_log_likelihood,
    "alpha_likelihood": alpha_likelihood,
    **DIVERGENCES,
}
