"""The likelihood of a reference answer as the reward of a sample, for any policy gradient.

A chain of thought is worth what it does for the answer: the policy scores the reference answer
behind it, and that number takes the place of a verifier's. Only the chain of thought is rewarded
for it; how likely the policy makes the answer is not itself maximised, as evidence objectives do
(evidence.py).
"""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.sequences import sequence_logprobs


def log_probability(answer_logprobs: Array, answer_mask: Array) -> Array:
    """log pi(a* | x, c), the sum over the answer's tokens (arXiv:2503.19618, single-sample bound).

    Args:
        answer_logprobs: [N, T] f32, of the reference answer's tokens, teacher-forced.
        answer_mask: [N, T] bool, True on them, the end token included.

    Returns:
        [N] f32, at most 0.
    """
    return sequence_logprobs(answer_logprobs, answer_mask)


def probability(answer_logprobs: Array, answer_mask: Array) -> Array:
    """pi(a* | x, c), the product over the answer's tokens (VeriFree, arXiv:2505.21493).

    It is the expected reward of exact match; that of a long answer is 0 in float32.

    Args:
        answer_logprobs: [N, T] f32, of the reference answer's tokens, teacher-forced.
        answer_mask: [N, T] bool, True on them, the end token included.

    Returns:
        [N] f32 in [0, 1].
    """
    return jnp.exp(sequence_logprobs(answer_logprobs, answer_mask))


def mean_token_probability(answer_logprobs: Array, answer_mask: Array) -> Array:
    """The mean probability of the answer's tokens (RLPR, arXiv:2506.18254).

    Args:
        answer_logprobs: [N, T] f32, of the reference answer's tokens, teacher-forced.
        answer_mask: [N, T] bool, True on them, the end token included.

    Returns:
        [N] f32 in [0, 1]; 0 where no token is.
    """
    total = jnp.where(answer_mask, jnp.exp(answer_logprobs), 0.0).sum(axis=-1)
    return total / jnp.maximum(answer_mask.sum(axis=-1), 1)


def debiased_token_probability(
    answer_logprobs: Array,
    answer_mask: Array,
    bare_answer_logprobs: Array,
    bare_answer_mask: Array,
) -> Array:
    """What the chain of thought adds to the mean probability of the answer's tokens.

        clip(mean p(token | x, c) - mean p(token | x), 0, 1)          (RLPR, arXiv:2506.18254)

    Without the clip a group's mean would take the second term off anyway: what is new is that
    thoughts that lower the answer's probability are all alike. RLPR also drops prompts whose
    rewards hardly differ, which is not done here.

    Args:
        answer_logprobs: [N, T] f32, of the reference answer's tokens, teacher-forced.
        answer_mask: [N, T] bool, True on them, the end token included.
        bare_answer_logprobs: [N, T] f32, the same where the answer phrase follows the prompt.
        bare_answer_mask: [N, T] bool.

    Returns:
        [N] f32 in [0, 1].
    """
    with_thought = mean_token_probability(answer_logprobs, answer_mask)
    without = mean_token_probability(bare_answer_logprobs, bare_answer_mask)
    return jnp.clip(with_thought - without, 0.0, 1.0)


def with_missing(rewards: Array, format_ok: Array, *, missing_reward: float) -> Array:
    """Rewards in which a sample without an answer never beats one of its group with an answer.

    Args:
        rewards: [B, G] f32, read where `format_ok`.
        format_ok: [B, G] bool, the sample contains the answer phrase.
        missing_reward: of a sample without it, where no reward of the group is lower: the
            log-probability of a long answer may be.

    Returns:
        [B, G] f32.
    """
    lowest = jnp.where(format_ok, rewards, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(format_ok, rewards, jnp.minimum(lowest, missing_reward))


ANSWER_REWARDS = {
    "log_probability": log_probability,
    "probability": probability,
    "mean_token_probability": mean_token_probability,
    "debiased_token_probability": debiased_token_probability,
}
