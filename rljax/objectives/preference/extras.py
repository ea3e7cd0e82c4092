"""What a preference loss has besides its links: a likelihood of the chosen side, weights of pairs.

B pairs, K sides of each, T completion slots. Side 0 of a pair is the chosen one.
"""

import jax.numpy as jnp
from jax import Array


def nll_token_mean(
    mask: Array,
    logprobs: Array,
    chosen_sides: Array,
    mean_chosen_length: Array,
    *,
    nll_weight: float = 1.0,
) -> Array:
    """Negative log-likelihood of the chosen sides, a mean over all of their tokens in the batch.

        loss[b] = nll_weight * -sum_t log policy(chosen token) / mean length of the chosen sides

    whose mean over the pairs is that over the tokens: TRL's `sft` beside another loss, the terms
    of CPO (arXiv:2401.08417) and ORPO (arXiv:2403.07691). In ORPO TRL and the authors' code count
    the tokens of the prompt too; here they are those of the completion.

    Args:
        mask: [B, K, T] bool.
        logprobs: [B, K, T] f32, differentiated.
        chosen_sides: [B, K] bool, side 0 of a pair, all members of a preferred group.
        mean_chosen_length: [B] f32, tokens of the chosen sides of a prompt, mean over the whole
            batch of an update, the same for every pair.
        nll_weight: factor of the term.

    Returns:
        [B] f32.
    """
    total = jnp.where(mask & chosen_sides[..., None], logprobs, 0.0).sum(axis=(-2, -1))
    return -nll_weight * total / mean_chosen_length


def nll_sequence_mean(
    sequence_logprobs: Array, lengths: Array, chosen_sides: Array, *, nll_weight: float = 1.0
) -> Array:
    """The same, a mean over the chosen sides of their token means (RPO, arXiv:2404.19733, eq. 1).

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        lengths: [B, K] f32, tokens of the completion, at least 1.
        chosen_sides: [B, K] bool, side 0 of a pair, all members of a preferred group.
        nll_weight: factor of the term, the paper's alpha.

    Returns:
        [B] f32; of a group the mean of its members.
    """
    means = jnp.where(chosen_sides, sequence_logprobs / lengths, 0.0).sum(axis=-1)
    return -nll_weight * means / jnp.maximum(chosen_sides.sum(axis=-1), 1)


CHOSEN_NLL = {
    "none": None,
    "token_mean": nll_token_mean,
    "sequence_mean": nll_sequence_mean,
}


def wpo(mask: Array, current_logprobs: Array, current_log_collision: Array) -> Array:
    """How near a pair is to the policy's own samples (WPO, arXiv:2406.11827, aligned weights).

        w(y) = exp(mean_t (log policy(y_t) - log sum_v policy(v)^2)),    weight = product of sides

    A token counts in full where it is as likely as a sample of the policy is on average; a peaked
    policy gives weights above 1, which are not cut. open-instruct cuts exp of the mean
    log-probabilities at 1 instead, without the collision term.

    Args:
        mask: [B, K, T] bool.
        current_logprobs: [B, K, T] f32, under the policy before the update.
        current_log_collision: [B, K, T] f32, log of the sum of its squared probabilities.

    Returns:
        [B] f32, a constant of the update.
    """
    tokens = jnp.where(mask, current_logprobs - current_log_collision, 0.0)
    return jnp.exp((tokens.sum(axis=-1) / jnp.maximum(mask.sum(axis=-1), 1)).sum(axis=-1))


PAIR_WEIGHTS = {"none": None, "wpo": wpo}
