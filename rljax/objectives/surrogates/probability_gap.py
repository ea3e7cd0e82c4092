"""Surrogates against the sampler's policy that drop tokens by a difference of probabilities.

prime-rl's losses (arXiv:2505.07291, code). A ratio of 2 between probabilities of 1e-6 and 2e-6 does
no harm, a ratio of 2 between 0.4 and 0.8 does: so the trust region is a bound on
p_policy - p_sampler. The ratio is differentiated and never clipped, and a quadratic term pulls
every token, dropped or not, back to the sampler:

    loss = -keep * A * exp(x) + mismatch_weight * x^2,     x = logprobs - behavior_logprobs

All of them compare with the sampler itself: their `log_ratio` must be the one against
`behavior_logprobs`. No correction is multiplied with them: the difference would count twice.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field

Losses = tuple[Array, dict[str, SumCount]]
PROBABILITY = (lambda x: 0 <= x <= 1, "a difference of probabilities, in [0, 1]")


def probability_gap(
    log_ratio: Array,
    logprobs: Array,
    behavior_logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    probability_low: float = 0.2,
    probability_high: float = 0.2,
    mismatch_weight: float = 1e-3,
    policy_weight: float = 1.0,
) -> Losses:
    """Drops a token that has gone too far in its advantage's direction (prime-rl's default).

        keep = not (A > 0 and d > probability_high) and not (A <= 0 and d < -probability_low)
        d    = exp(logprobs) - exp(behavior_logprobs)

    This follows the authors' code; the formula of its guide, min(ratio, delta), is not in it.

    Args:
        log_ratio: [N, T] f32, log of policy / sampler, differentiated.
        logprobs: [N, T] f32; read as a constant.
        behavior_logprobs: [N, T] f32, as the sampler reported them; where they are not finite, d
            is 0.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        probability_low: largest fall of a token with A <= 0.
        probability_high: largest rise of a token with A > 0.
        mismatch_weight: factor of x^2.
        policy_weight: factor of the first term; `keep` does not depend on it.

    Returns:
        [N, T] loss, zero outside the mask, and metrics over tokens: `dropped_share`,
        `dropped_share_low`, `dropped_share_high`; of the dropped tokens `dropped_positive_share`
        (A > 0) and `dropped_negative_share`; `mismatch_kl_dropped`, `mismatch_kl_kept`, means of
        exp(x) - x - 1.

    Raises:
        ValueError: for a bound outside of [0, 1] or a negative weight.
    """
    check_field("probability_low", probability_low, *PROBABILITY)
    check_field("probability_high", probability_high, *PROBABILITY)
    advantages = jnp.where(mask, jax.lax.stop_gradient(advantages), 0.0)
    gap = _gap(logprobs, behavior_logprobs, mask)
    high = mask & (advantages > 0) & (gap > probability_high)
    low = mask & (advantages <= 0) & (gap < -probability_low)
    loss, metrics = _loss(log_ratio, advantages, high | low, mask, mismatch_weight, policy_weight)
    metrics |= {
        "dropped_share_low": masked(low, mask),
        "dropped_share_high": masked(high, mask),
        "dropped_positive_share": masked(high, high | low),
        "dropped_negative_share": masked(low, high | low),
    }
    return loss, metrics


def probability_gap_both(
    log_ratio: Array,
    logprobs: Array,
    behavior_logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    probability_bound: float = 0.1,
    mismatch_weight: float = 1e-3,
) -> Losses:
    """As `probability_gap`, with one bound for both signs of the advantage (prime-rl's IPO).

        keep = |exp(logprobs) - exp(behavior_logprobs)| <= probability_bound

    Args:
        log_ratio: [N, T] f32, log of policy / sampler, differentiated.
        logprobs: [N, T] f32; read as a constant.
        behavior_logprobs: [N, T] f32.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        probability_bound: largest difference either way.
        mismatch_weight: factor of x^2.

    Returns:
        [N, T] loss, zero outside the mask, and `dropped_share`, `mismatch_kl_dropped` and
        `mismatch_kl_kept`, as in `probability_gap`.

    Raises:
        ValueError: for a bound outside of [0, 1] or a negative weight.
    """
    check_field("probability_bound", probability_bound, *PROBABILITY)
    advantages = jnp.where(mask, jax.lax.stop_gradient(advantages), 0.0)
    dropped = mask & (jnp.abs(_gap(logprobs, behavior_logprobs, mask)) > probability_bound)
    return _loss(log_ratio, advantages, dropped, mask, mismatch_weight, 1.0)


def reference_distillation(
    log_ratio: Array,
    logprobs: Array,
    behavior_logprobs: Array,
    ref_logprobs: Array,
    mask: Array,
    *,
    probability_low: float = 0.2,
    mismatch_weight: float = 1e-3,
) -> Losses:
    """On-policy distillation: the advantage is how much likelier the token is to the reference.

        A = sg(ref_logprobs - logprobs),     keep = d >= -probability_low

    In expectation over the policy's samples this is a step that lowers KL(policy || reference)
    (prime-rl `ref_kl`).

    Args:
        log_ratio: [N, T] f32, log of policy / sampler, differentiated.
        logprobs: [N, T] f32; read as a constant.
        behavior_logprobs: [N, T] f32.
        ref_logprobs: [N, T] f32, under the teacher.
        mask: [N, T] bool.
        probability_low: largest fall of a token's probability below the sampler's.
        mismatch_weight: factor of x^2.

    Returns:
        [N, T] loss, zero outside the mask; the metrics of `probability_gap_both`; and
        `reference_kl`, mean of logprobs - ref_logprobs.

    Raises:
        ValueError: for a bound outside of [0, 1] or a negative weight.
    """
    check_field("probability_low", probability_low, *PROBABILITY)
    chex.assert_equal_shape([logprobs, ref_logprobs])
    advantages = jax.lax.stop_gradient(jnp.where(mask, ref_logprobs - logprobs, 0.0))
    dropped = mask & (_gap(logprobs, behavior_logprobs, mask) < -probability_low)
    loss, metrics = _loss(log_ratio, advantages, dropped, mask, mismatch_weight, 1.0)
    return loss, metrics | {"reference_kl": masked(-advantages, mask)}


def _gap(logprobs: Array, behavior_logprobs: Array, mask: Array) -> Array:
    """[N, T] p_policy - p_sampler, constant."""
    chex.assert_equal_shape([logprobs, behavior_logprobs, mask])
    known = mask & jnp.isfinite(behavior_logprobs)
    policy = jnp.exp(jnp.where(known, jax.lax.stop_gradient(logprobs), 0.0))
    return policy - jnp.exp(jnp.where(known, jax.lax.stop_gradient(behavior_logprobs), 0.0))


def _loss(
    log_ratio: Array,
    advantages: Array,
    dropped: Array,
    mask: Array,
    mismatch_weight: float,
    policy_weight: float,
) -> Losses:
    for name, weight in {
        "mismatch_weight": mismatch_weight,
        "policy_weight": policy_weight,
    }.items():
        check_field(name, weight, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([log_ratio, advantages, mask])
    log_ratio = jnp.where(mask, log_ratio, 0.0)
    ratio = jnp.exp(log_ratio)
    kept = mask & ~dropped
    loss = (
        -policy_weight * jnp.where(kept, advantages * ratio, 0.0) + mismatch_weight * log_ratio**2
    )
    # For small x, exp(x) - x - 1 would lose its digits; expm1 keeps them.
    mismatch = jnp.expm1(log_ratio) - log_ratio
    return loss, {
        "dropped_share": masked(dropped, mask),
        "mismatch_kl_dropped": masked(mismatch, dropped),
        "mismatch_kl_kept": masked(mismatch, kept),
    }
