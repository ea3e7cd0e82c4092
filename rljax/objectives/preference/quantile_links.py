"""Losses on sorted scores: the chosen sides of a batch as a whole above the rejected (AOT).

A sorted difference pairs the value of rank i of one sample with that of rank i of another. A value
is differentiated where it stands, and its partner, found over the whole batch, is a constant:

    d/dx_b sum_i l(sort(x)_i - sort(y)_i) = l'(x_b - y of x_b's rank)

so the partners are all that the pairs of a batch must know of each other, and no split into
micro-batches changes the loss. B pairs of two sides. arXiv:2406.05882.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.preference.links import scaled, smoothed


def aot(
    sequence_logprobs: Array,
    matched_margins: Array,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """`logistic` of the policy's sorted margins over the reference's (AOT, paired).

        d = sort(log policy(w) - log policy(l)) - sort(log reference(w) - log reference(l))

    In a batch of one pair it is DPO.

    Args:
        sequence_logprobs: [B, 2] f32, summed over the completion's tokens, differentiated.
        matched_margins: [B] f32, see `reference_margins`.
        beta: strength of the implicit KL to the reference.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    margins = sequence_logprobs[:, 0] - sequence_logprobs[:, 1]
    return smoothed(scaled(margins - matched_margins, beta), label_smoothing)


def aot_unpaired(
    sequence_logprobs: Array,
    ref_sequence_logprobs: Array,
    matched_log_ratios: Array,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """`logistic` of the chosen sides' sorted log-ratios over the rejected sides' (AOT, unpaired).

        d = sort(r_w) - sort(r_l),    r = log policy - log reference

    Chosen and rejected of a pair need not have the same prompt. The value is that of the chosen
    side's difference; the rejected side adds its gradient.

    Args:
        sequence_logprobs: [B, 2] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, 2] f32, under the frozen reference; constant.
        matched_log_ratios: [B, 2] f32, see `opposite_log_ratios`.
        beta: strength of the implicit KL to the reference.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    ratios = sequence_logprobs - jax.lax.stop_gradient(ref_sequence_logprobs)
    ahead = ratios[:, 0] - matched_log_ratios[:, 0]
    behind = matched_log_ratios[:, 1] - ratios[:, 1]
    chosen = smoothed(scaled(ahead, beta), label_smoothing)
    rejected = smoothed(scaled(behind, beta), label_smoothing)
    return chosen + rejected - jax.lax.stop_gradient(rejected)


def reference_margins(
    current_sequence_logprobs: Array, ref_sequence_logprobs: Array, usable: Array
) -> Array:
    """The reference's margin of the rank that the policy's margin of each pair has.

    Args:
        current_sequence_logprobs: [B, 2] f32 of the whole batch, before the update.
        ref_sequence_logprobs: [B, 2] f32, under the frozen reference.
        usable: [B] bool; other pairs have no rank, and get 0.

    Returns:
        [B] f32.
    """
    margins = current_sequence_logprobs[:, 0] - current_sequence_logprobs[:, 1]
    reference = ref_sequence_logprobs[:, 0] - ref_sequence_logprobs[:, 1]
    return _of_rank(margins, reference, usable)


def opposite_log_ratios(
    current_sequence_logprobs: Array, ref_sequence_logprobs: Array, usable: Array
) -> Array:
    """The log-ratio of the other side that has the rank which each side has among its own.

    Args:
        current_sequence_logprobs: [B, 2] f32 of the whole batch, before the update.
        ref_sequence_logprobs: [B, 2] f32, under the frozen reference.
        usable: [B] bool; other pairs have no rank, and get 0.

    Returns:
        [B, 2] f32.
    """
    chosen, rejected = (current_sequence_logprobs - ref_sequence_logprobs).T
    return jnp.stack(
        [_of_rank(chosen, rejected, usable), _of_rank(rejected, chosen, usable)], axis=1
    )


def _of_rank(values: Array, others: Array, usable: Array) -> Array:
    """others[j] whose rank among the others is that of values[b], [B]."""
    last = jnp.where(usable, 0.0, jnp.inf)
    rank = jnp.argsort(jnp.argsort(values + last))
    return jnp.where(usable, jnp.sort(others + last)[rank], 0.0)


QUANTILE_LINKS = {"aot": aot, "aot_unpaired": aot_unpaired}
# What they know of the whole batch, by array.
MATCHED = {"matched_margins": reference_margins, "matched_log_ratios": opposite_log_ratios}
