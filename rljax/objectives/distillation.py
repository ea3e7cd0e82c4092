"""Distillation: what a teacher says of the tokens that the policy learns from.

Over the whole vocabulary a divergence is the loss of a token (objectives/divergences.py). Of the
sampled tokens alone, the teacher's log-ratio is an advantage:

    A[n, t] = reward_weight * A of the reward
              + teacher_weight * sum_k discount^k (log q - log p)[n, t + k]

With discount 0 its expected gradient is that of KL(p || q) of the next token, in the states that
were visited; with discount 1 that of KL(p || q) of whole completions.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.corrections.importance import truncated
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field


def teacher_loss(
    teacher_divergence: Array, logprobs: Array, mask: Array, *, likelihood_share: float = 0.0
) -> tuple[Array, dict[str, SumCount]]:
    """The divergence from the teacher as the loss of a token (GKD, arXiv:2306.13649).

        (1 - w) divergence - w log p

    Args:
        teacher_divergence: [N, T] f32, differentiated.
        logprobs: [N, T] f32, of the tokens under the policy, differentiated.
        mask: [N, T] bool.
        likelihood_share: w, the share of the likelihood of the completions themselves (SALT,
            arXiv:2410.18779); 0 reads none.

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `teacher_divergence` and, with a share,
        `nll`, nats per token.

    Raises:
        ValueError: for a share outside of [0, 1).
    """
    chex.assert_equal_shape([teacher_divergence, logprobs, mask])
    check_field("likelihood_share", likelihood_share, lambda x: 0 <= x < 1, "in [0, 1)")
    divergence = jnp.where(mask, teacher_divergence, 0.0)
    metrics = {"teacher_divergence": masked(divergence, mask)}
    if likelihood_share == 0:
        return divergence, metrics
    surprise = jnp.where(mask, -logprobs, 0.0)
    loss = (1 - likelihood_share) * divergence + likelihood_share * surprise
    return loss, metrics | {"nll": masked(surprise, mask)}


def log_ratio(
    advantages: Array,
    old_logprobs: Array,
    teacher_logprobs: Array,
    mask: Array,
    *,
    reward_weight: float = 1.0,
    teacher_weight: float = 1.0,
    teacher_discount: float = 0.0,
    teacher_clip: float = 20.0,
) -> Array:
    """Adds the teacher's log-ratio of each sampled token to its advantage.

    On-policy distillation: a reverse KL of one sample per token, beside a verifier or alone.

    Args:
        advantages: [N, T] f32, of the reward.
        old_logprobs: [N, T] f32, under the policy that sampled.
        teacher_logprobs: [N, T] f32, under the teacher, at the same temperature.
        mask: [N, T] bool.
        reward_weight: factor of the advantages that come from the reward; 0 reads none.
        teacher_weight: factor of the log-ratio.
        teacher_discount: weight of the next token's ratio, and so on; 0 counts each token alone.
        teacher_clip: bound on a token's log-ratio, which is infinite where the teacher excludes
            the token.

    Returns:
        [N, T] f32, constant, 0 outside the mask.

    Raises:
        ValueError: for a discount outside of [0, 1], or a bound that is not positive.
    """
    check_field("teacher_discount", teacher_discount, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("teacher_clip", teacher_clip, lambda x: x > 0, "> 0")
    ratio = jnp.clip(teacher_logprobs - old_logprobs, -teacher_clip, teacher_clip)
    ratio = jnp.where(mask, ratio, 0.0)

    def earlier(later: Array, own: Array) -> tuple[Array, Array]:
        total = own + teacher_discount * later
        return total, total

    _, summed = jax.lax.scan(earlier, jnp.zeros(len(ratio)), ratio.T, reverse=True)
    total = reward_weight * advantages + teacher_weight * summed.T
    return jax.lax.stop_gradient(jnp.where(mask, total, 0.0))


def truncated_ratio(
    logprobs: Array, behavior_logprobs: Array, mask: Array, *, correction_cap: float = 2.0
) -> tuple[Array, dict[str, SumCount]]:
    """A constant factor of each token's loss: how much likelier the policy finds it by now (SDPO).

        min(p / p of the sampler, correction_cap)

    It makes up for samples of an earlier policy; the bound makes it biased (arXiv:2601.20802).

    Args:
        logprobs: [N, T] f32, of the tokens under the policy.
        behavior_logprobs: [N, T] f32, under the model that sampled, at temperature 1; NaN where the
            policy sampled nothing: a factor of 1.
        mask: [N, T] bool.
        correction_cap: largest factor.

    Returns:
        [N, T] f32, constant, 0 outside the mask; and the metrics of a truncated correction
        (objectives/corrections/importance.py).
    """
    found = truncated(logprobs, behavior_logprobs, mask, correction_cap=correction_cap)
    return found.weights, found.metrics


SAMPLER_CORRECTIONS = {"none": None, "truncated": truncated_ratio}

TEACHERS = {"none": None, "log_ratio": log_ratio}
