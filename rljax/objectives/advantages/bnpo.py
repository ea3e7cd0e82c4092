"""Advantages divided by a Beta density that follows the policy's success rates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betaln

from rljax.objectives.advantages.groups import broadcast, group_statistics, scores_of
from rljax.objectives.parts import check_field

# Below this variance of the success rates the moments define no Beta distribution.
LEAST_VARIANCE = 1e-12
LARGEST_WEIGHT = 1e6


class BetaParameters(NamedTuple):
    """The parameters of the density that advantages are divided by; scalars."""

    alpha: Array
    beta: Array


def normalising_beta(rates: Array, weights: Array) -> BetaParameters:
    """The Beta density with the least variance of the estimator (BNPO, arXiv:2506.02864).

        k = mu (1 - mu) / v - 1;   a = k mu;   b = k (1 - mu)      moments of Beta(a, b)
        alpha = max(1 + a / 3, 1);   beta = max(1 + b / 3, 1)

    mu and v are mean and unbiased variance of the success rates over prompts. For p ~ Beta(a, b)
    and gradients that do not depend on the advantage, the variance of the estimator is
    proportional to E[p (1 - p) / f(p)^2], which this density minimises.

    Args:
        rates: [N] f32, success rate of each row's prompt, in [0, 1].
        weights: [N] f32, share of the row in its prompt: the weights of a prompt's rows add up to
            1, and empty rows weigh 0.

    Returns:
        alpha = beta = 1 for fewer than two prompts and where all rates agree.
    """
    prompts = weights.sum()
    mu = (weights * rates).sum() / jnp.maximum(prompts, 1.0)
    variance = (weights * (rates - mu) ** 2).sum() / jnp.maximum(prompts - 1.0, 1.0)
    defined = (prompts > 1.5) & (variance >= LEAST_VARIANCE)
    k = jnp.where(defined, mu * (1.0 - mu) / jnp.where(defined, variance, 1.0) - 1.0, 0.0)
    return BetaParameters(
        jnp.maximum(1.0 + k * mu / 3.0, 1.0), jnp.maximum(1.0 + k * (1.0 - mu) / 3.0, 1.0)
    )


def inverse_density(rates: Array, parameters: BetaParameters) -> Array:
    """min(1 / f(p), 1e6) with f the Beta density: [N] f32 in [0, 1] -> [N] f32."""
    alpha, beta = parameters
    # At 0 and 1 the exponents alpha - 1 = 0 would give 0 * inf.
    left = jnp.where(alpha > 1.0, (alpha - 1.0) * jnp.log(rates), 0.0)
    right = jnp.where(beta > 1.0, (beta - 1.0) * jnp.log1p(-rates), 0.0)
    log_inverse = betaln(alpha, beta) - left - right
    return jnp.exp(jnp.minimum(log_inverse, jnp.log(LARGEST_WEIGHT)))


class _Prompts(NamedTuple):
    scores: Array  # [N], scaled to [0, 1]
    rates: Array  # [N], success rate of the row's prompt
    weights: Array  # [N]
    homogeneous: Array  # [N] bool, groups of two or more whose scores agree


def _prompts(token_rewards, mask, group_ids, reward_min, reward_max) -> _Prompts:
    scores, present = scores_of(token_rewards, mask, group_ids)
    scores = (scores - reward_min) / (reward_max - reward_min)
    # A score outside makes everything NaN: a mean that is no probability would pass unnoticed.
    inside = (scores >= -1e-6) & (scores <= 1.0 + 1e-6)
    scores = jnp.where(inside | ~present, jnp.clip(scores, 0.0, 1.0), jnp.nan)
    group = group_statistics(scores, present, group_ids)
    alone = group.size == 1
    rates = jnp.where(present, jnp.where(alone, 0.0, jnp.clip(group.mean, 0.0, 1.0)), 0.0)
    weights = jnp.where(present, 1.0 / jnp.maximum(group.size, 1.0), 0.0)
    return _Prompts(scores, rates, weights, group.homogeneous & ~alone)


def fitted_beta(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    reward_min: float = 0.0,
    reward_max: float = 1.0,
) -> BetaParameters:
    """The density that `bnpo` divides by on the same arguments, for logs."""
    prompts = _prompts(token_rewards, mask, group_ids, reward_min, reward_max)
    return normalising_beta(prompts.rates, prompts.weights)


def bnpo(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    reward_min: float = 0.0,
    reward_max: float = 1.0,
) -> Array:
    """A = (score - p) / f(p), p the group's mean and f a Beta density (BNPO, arXiv:2506.02864).

    f is fitted to the success rates of the batch's prompts (`normalising_beta`) and 1 / f is cut
    at 1e6. f = 1 is REINFORCE with the group's mean, Beta(3/2, 3/2) is pi / 8 times GRPO with the
    biased deviation. The mean of the weights 1 / f is not 1: log mean |A| before you compare
    learning rates. (TRL's loss type "bnpo" is another thing: a plain token mean.)

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        reward_min: the score that counts as 0.
        reward_max: the score that counts as 1; by default that of a right sample (`right_at` of
            config.scoring.rewards).

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree. A group of one has p = 0, as in the authors' code: use two or more. NaN for
        the whole batch if a score lies outside [reward_min, reward_max].

    Raises:
        ValueError: if `reward_max` is not above `reward_min`.
    """
    if not isinstance(reward_min, jax.core.Tracer):
        check_field("reward_max", reward_max, lambda x: x > reward_min, f"> {reward_min}")
    prompts = _prompts(token_rewards, mask, group_ids, reward_min, reward_max)
    weight = inverse_density(prompts.rates, normalising_beta(prompts.rates, prompts.weights))
    centred = jnp.where(prompts.homogeneous, 0.0, prompts.scores - prompts.rates)
    broken = jnp.isnan(prompts.scores).any()
    return broadcast(jnp.where(broken, jnp.nan, weight * centred), mask)
