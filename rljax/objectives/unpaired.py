"""Losses on single completions that are desired or not: no pairs are needed.

    loss[n] = link(log policy(y) - log reference(y), label),   averaged over all completions

N completions, T slots of each. Parts read arrays by name (`UNPAIRED_ARRAYS`). What a loss knows of
other completions, a baseline or a shift of the rewards, is a constant of the update that is found
over the whole batch, so neither devices nor micro-batches change it.
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import apply, check_field
from rljax.objectives.sequences import sequence_logprobs as summed


def kto(
    sequence_logprobs: Array,
    ref_sequence_logprobs: Array,
    labels: Array,
    kl_baseline: Array,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Array:
    """A prospect-theoretic value of each completion (KTO, arXiv:2402.01306, eq. 8).

        r = log policy(y) - log reference(y)
        loss = desirable_weight * (1 - sigmoid(beta (r - z)))      of a desired completion
        loss = undesirable_weight * (1 - sigmoid(beta (z - r)))    of another

    z is an estimate of KL(policy || reference), without gradient (`kl_estimate`). The weights
    should make up for unequal numbers: desirable_weight * n_desired between 1 and 4/3 times
    undesirable_weight * n_undesired.

    Args:
        sequence_logprobs: [N] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [N] f32, under the frozen reference; constant.
        labels: [N] bool, the completion is desired.
        kl_baseline: [N] f32, z, the same for all.
        beta: strength of the implicit KL to the reference.
        desirable_weight: lambda_D, factor of the losses of desired completions.
        undesirable_weight: lambda_U, of the others.

    Returns:
        [N] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    above = beta * (_log_ratio(sequence_logprobs, ref_sequence_logprobs) - kl_baseline)
    return jnp.where(
        labels,
        desirable_weight * jax.nn.sigmoid(-above),
        undesirable_weight * jax.nn.sigmoid(above),
    )


def apo_zero_unpaired(
    sequence_logprobs: Array, ref_sequence_logprobs: Array, labels: Array, *, beta: float = 0.1
) -> Array:
    """`kto` around 0: the loss of APO-zero (arXiv:2408.06266) of each side by itself.

        loss = 1 - sigmoid(beta r)  of a desired completion,   sigmoid(beta r)  of another

    Args:
        sequence_logprobs: [N] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [N] f32, under the frozen reference; constant.
        labels: [N] bool, the completion is desired.
        beta: strength of the implicit KL to the reference.

    Returns:
        [N] f32 in (0, 1).

    Raises:
        ValueError: if `beta` is not positive.
    """
    zero = jnp.zeros_like(sequence_logprobs)
    return kto(sequence_logprobs, ref_sequence_logprobs, labels, zero, beta=beta)


def bco(
    sequence_logprobs: Array,
    ref_sequence_logprobs: Array,
    labels: Array,
    reward_shift: Array,
    *,
    beta: float = 0.1,
) -> Array:
    """A binary classifier of desired completions (BCO, arXiv:2404.04656, eq. 9).

        loss = -log sigmoid(beta r - delta)  of a desired completion,
               -log sigmoid(-(beta r - delta))  of another

    delta is the mean of all rewards beta r of the stage so far, those of this update among them,
    without gradient (`running_mean`), as in TRL; the paper's is a moving average.

    Args:
        sequence_logprobs: [N] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [N] f32, under the frozen reference; constant.
        labels: [N] bool, the completion is desired.
        reward_shift: [N] f32, delta, the same for all.
        beta: strength of the implicit KL to the reference.

    Returns:
        [N] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    reward = beta * _log_ratio(sequence_logprobs, ref_sequence_logprobs)
    logits = reward - reward_shift
    return -jax.nn.log_sigmoid(jnp.where(labels, logits, -logits))


UNPAIRED_LINKS = {"kto": kto, "apo_zero_unpaired": apo_zero_unpaired, "bco": bco}


def kl_estimate(mismatched_log_ratios: Array, present: Array) -> Array:
    """KTO's baseline: the mean log-ratio of completions under prompts of other completions.

        z = max(0, mean log policy(y' | x) / reference(y' | x))

    Args:
        mismatched_log_ratios: [N] f32, sums over the tokens of y'.
        present: [N] bool, y' has a token; others are not counted.

    Returns:
        [] f32, at least 0; 0 where nothing is counted.
    """
    return jnp.maximum(masked(mismatched_log_ratios, present).mean(), 0.0)


def running_mean(
    total: Array, count: Array, rewards: Array, present: Array
) -> tuple[Array, Array, Array]:
    """BCO's shift: the mean of all rewards so far, of those given now too.

    Args:
        total: [] f32, sum of the rewards before.
        count: [] f32, their number.
        rewards: [N] f32 of this update.
        present: [N] bool, the completion has a token; others are not counted.

    Returns:
        The new sum and number, and their quotient; 0 where nothing was counted.
    """
    now = masked(rewards, present)
    total, count = total + now.total, count + now.count
    return total, count, SumCount(total, count).mean()


def unpaired_loss(
    arrays: Mapping[str, Array], *, link: Callable, beta: float = 1.0
) -> tuple[Array, dict[str, SumCount]]:
    """Loss of each completion; the step averages over the completions of the global batch.

    Args:
        arrays: by name (`UNPAIRED_ARRAYS`): `mask` [N, T] bool, `logprobs` [N, T] f32, which is
            differentiated, `ref_sequence_logprobs`, `labels`, and what the link names besides.
        link: a value of `UNPAIRED_LINKS`, config fields bound with `functools.partial`.
        beta: scale of the rewards in the metrics.

    Returns:
        [N] loss and metrics over completions that have a token.

    Raises:
        ValueError: for a part that names an array which is not there.
    """
    mask, labels = arrays["mask"], arrays["labels"]
    chex.assert_rank(mask, 2)
    known = {**arrays, "sequence_logprobs": summed(arrays["logprobs"], mask)}
    loss = apply(link, known)
    chex.assert_shape(loss, labels.shape)
    present, sums = mask.any(axis=-1), known["sequence_logprobs"]
    rewards = beta * (sums - known["ref_sequence_logprobs"])
    metrics = {}
    for name, kept in (("desired", present & labels), ("undesired", present & ~labels)):
        metrics[f"reward_{name}"] = masked(rewards, kept)
        metrics[f"logprob_{name}"] = masked(sums, kept)
    return loss, metrics


def _log_ratio(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    return sequence_logprobs - jax.lax.stop_gradient(ref_sequence_logprobs)
