"""Scores that stand for other divergences from the reference than the reverse KL (f-DPO).

    s = f'(t),    t = policy(y) / reference(y),    r = log t

The policy that maximises reward - beta * D_f(policy || reference) has reward = beta * f'(t) + a
constant of the prompt (arXiv:2309.16240, theorem 1), which cancels in a difference of two scores
and nowhere else: links that read the scores of single sides are refused. The reverse KL has
f'(t) = log t + 1 and is the score `log_ratio`. B pairs, K sides.
"""

import jax
import jax.numpy as jnp
from jax import Array

# exp of more is not finite in float32, or nearly so; as TRL clamps.
LARGEST_EXPONENT = 80.0
# Of scores that are nothing but an exponential of the log-ratio; more is no reward but rounding.
LARGEST_RATIO = 20.0


def power(exponent: Array | float, log_values: Array) -> Array:
    """(x^c - 1) / c of x = exp(log_values), whose limit at c = 0 is log x.

    Args:
        exponent: c; c * log x is cut at 80.
        log_values: [...] f32.

    Returns:
        [...] f32, finite for finite values.
    """
    flat = jnp.abs(exponent) < 1e-6
    safe = jnp.where(flat, 1.0, exponent)
    raised = jnp.expm1(jnp.minimum(safe * log_values, LARGEST_EXPONENT)) / safe
    return jnp.where(flat, log_values, raised)


def forward_kl(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    """The forward KL's: s = 1 - exp(-r); it is bounded above by 1.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.

    Returns:
        [B, K] f32; -r is cut at 80.
    """
    return power(-1.0, _log_ratios(sequence_logprobs, ref_sequence_logprobs))


def jensen_shannon(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    """The Jensen-Shannon divergence's: s = log 2 + log sigmoid(r); bounded above by log 2.

    The exact derivative is log(2 t / (1 + t)), which is this.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.

    Returns:
        [B, K] f32.
    """
    ratios = _log_ratios(sequence_logprobs, ref_sequence_logprobs)
    return jnp.log(2.0) + jax.nn.log_sigmoid(ratios)


def alpha_divergence(
    sequence_logprobs: Array, ref_sequence_logprobs: Array, *, divergence_alpha: float = 0.5
) -> Array:
    """An alpha-divergence's: s = (t^(a - 1) - 1) / (a - 1).

    a = 1 is the reverse KL, a = 0 the forward KL.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.
        divergence_alpha: a, the order of the divergence.

    Returns:
        [B, K] f32; (a - 1) r is cut at 80.
    """
    return power(divergence_alpha - 1.0, _log_ratios(sequence_logprobs, ref_sequence_logprobs))


def chi_squared(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    """The chi-squared divergence's plus the reverse KL's: s = t + r (chi-PO, arXiv:2407.13399).

    It grows with the ratio itself, so that a policy which moves far from the reference pays more.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.

    Returns:
        [B, K] f32; r is cut at 20 in t.
    """
    ratios = _log_ratios(sequence_logprobs, ref_sequence_logprobs)
    return jnp.exp(jnp.minimum(ratios, LARGEST_RATIO)) + ratios


def log_over_ratio(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    """The one with f'(t) = log(t) / t: s = r exp(-r) (SquaredPO, ICLR 2026).

    It is largest at r = 1: a chosen completion is not pushed beyond, and one that became less
    likely than under the reference is pulled back hard.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.

    Returns:
        [B, K] f32; -r is cut at 20 in the exponential.
    """
    ratios = _log_ratios(sequence_logprobs, ref_sequence_logprobs)
    return ratios * jnp.exp(jnp.minimum(-ratios, LARGEST_RATIO))


def _log_ratios(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    return sequence_logprobs - jax.lax.stop_gradient(ref_sequence_logprobs)


DIVERGENCES = {
    "forward_kl": forward_kl,
    "jensen_shannon": jensen_shannon,
    "alpha_divergence": alpha_divergence,
    "chi_squared": chi_squared,
    "log_over_ratio": log_over_ratio,
}
