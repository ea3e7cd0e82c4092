"""The policy-gradient loss, built from interchangeable parts (arXiv:2509.04419).

    gradient = sum over tokens of
        selected * weight * correction * f(policy / denominator) * advantage * grad log policy

Advantages come from `advantages/` and are computed before; aggregation weights come from
`aggregation.py` and are applied after: `loss = sum(weights * per_token_loss)`.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.kl import RIGHT_IN_GRADIENT
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import apply


def policy_gradient_loss(
    arrays: Mapping[str, Array],
    *,
    ratio: Callable,
    surrogate: Callable,
    kl: Callable | None = None,
    kl_weight: float = 0.0,
    kl_importance_weighted: bool = False,
    entropy_weight: float = 0.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Per-token loss of any policy-gradient method; all of training goes through here.

        loss = correction * surrogate(log_ratio, A) + kl_weight * kl - entropy_weight * entropy

    Args:
        arrays: by name (`objectives/arrays.py`): `logprobs` and `entropy`, which are
            differentiated; `mask`; what the parts name, such as `old_logprobs` and `advantages`;
            `ref_logprobs` with `kl`; and perhaps `correction` [N, T] f32, a constant factor of the
            surrogate.
        ratio: a value of `RATIOS`.
        surrogate: a value of `SURROGATES`, its config fields bound with `functools.partial`.
        kl: a value of `KL_ESTIMATORS` for a KL term in the loss, or None.
        kl_weight: factor of the KL term.
        kl_importance_weighted: multiply the KL term by the ratio, for several updates per rollout:
            the samples are then the old policy's, and the KL is the current policy's. The ratio is
            a constant for estimators that are right in gradient (k2, k1_plus, k3_plus), and
            differentiated for those that are right in value (k1, k3; TRL's
            use_bias_correction_kl). Both give grad KL(policy || ref) in the states that the samples
            visit (kl.py).
        entropy_weight: factor of the entropy bonus.

    Returns:
        [N, T] loss, zero outside the mask, to be multiplied by an aggregation's weights and added
        up; and metrics: the surrogate's, `old_policy_kl` (mean of old minus current
        log-probability), `kl` with an estimator and `entropy` where it is given.

    Raises:
        ValueError: if a term is asked for whose input is missing.
    """
    _check_inputs(arrays, kl, kl_weight, kl_importance_weighted, entropy_weight)
    mask = arrays["mask"]
    log_ratio = apply(ratio, arrays)
    loss, metrics = apply(surrogate, {**arrays, "log_ratio": log_ratio})
    if "correction" in arrays:
        loss = jnp.where(mask, jax.lax.stop_gradient(arrays["correction"]), 0.0) * loss
    metrics = dict(metrics, old_policy_kl=masked(-log_ratio, mask))
    if kl is not None:
        values = kl(arrays["logprobs"], arrays["ref_logprobs"], mask)
        metrics["kl"] = masked(values, mask)
        if kl_importance_weighted:
            weight = jnp.exp(log_ratio)
            if kl in RIGHT_IN_GRADIENT:
                weight = jax.lax.stop_gradient(weight)
            values = weight * values
        loss = loss + kl_weight * values
    if "entropy" in arrays:
        entropy = jnp.where(mask, arrays["entropy"], 0.0)
        metrics["entropy"] = masked(entropy, mask)
        if not is_zero(entropy_weight):  # 0 * entropy would still cost its gradient
            loss = loss - entropy_weight * entropy
    return loss, metrics


def _check_inputs(
    arrays: Mapping[str, Array],
    kl: Callable | None,
    kl_weight: float,
    kl_importance_weighted: bool,
    entropy_weight: float,
) -> None:
    if kl is None and (kl_importance_weighted or not is_zero(kl_weight)):
        raise ValueError(
            f"A KL term was asked for ({kl_weight=}, {kl_importance_weighted=}) without an "
            "estimator; name one (config.<stage>.objective.kl_estimator) or set the weight to 0."
        )
    if kl is not None and "ref_logprobs" not in arrays:
        raise ValueError(
            "A KL estimator was given but no ref_logprobs; a KL term needs a reference policy "
            "(config.<stage>.objective.kl_placement)."
        )
    if "entropy" not in arrays and not is_zero(entropy_weight):
        raise ValueError(
            f"{entropy_weight=} needs the per-token entropy, and none was given "
            "(config.<stage>.objective.entropy_weight)."
        )


def is_zero(weight: float) -> bool:
    """Whether a term with this weight is switched off."""
    # A traced weight (from a schedule) has no value at build time and counts as non-zero.
    return isinstance(weight, int | float) and weight == 0


def kl_in_reward(
    token_rewards: Array,
    logprobs: Array,
    ref_logprobs: Array,
    mask: Array,
    *,
    kl_weight: float,
    kl: Callable,
) -> Array:
    """Takes the KL out of the reward: r[n, t] - kl_weight * kl[n, t], before the advantage.

    Args:
        token_rewards: [N, T] f32.
        logprobs: [N, T] f32, log-probabilities of the sampled tokens under the sampling policy.
        ref_logprobs: [N, T] f32 under the frozen reference.
        mask: [N, T] bool.
        kl_weight: factor of the KL.
        kl: a value of `KL_ESTIMATORS`, a constant here. With k1 the expected gradient is that of
            the KL between distributions of completions, with no other estimator (kl.py).

    Returns:
        [N, T] f32 without gradient; unchanged outside the mask.
    """
    return jax.lax.stop_gradient(token_rewards - kl_weight * kl(logprobs, ref_logprobs, mask))
