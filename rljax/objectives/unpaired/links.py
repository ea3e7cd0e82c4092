"""Losses on whole completions that are desired or not.

N completions, each with its log-ratio to the reference.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field


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
    return prospect_loss(
        _log_ratio(sequence_logprobs, ref_sequence_logprobs),
        kl_baseline,
        labels,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def prospect_loss(
    log_ratios: Array,
    baseline: Array,
    labels: Array,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Array:
    """What `kto` makes of log-ratios, of whole completions or of parts of them.

    Args:
        log_ratios: [...] f32, differentiated.
        baseline: of a shape that broadcasts, the reference point.
        labels: [...] bool, what is desired.
        beta, desirable_weight, undesirable_weight: as for `kto`.

    Returns:
        [...] f32, 0 to the larger weight.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    above = beta * (log_ratios - baseline)
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


def _log_ratio(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    return sequence_logprobs - jax.lax.stop_gradient(ref_sequence_logprobs)
