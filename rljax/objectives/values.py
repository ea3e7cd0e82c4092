"""Learning a value function: targets from rewards, and the loss against them.

A part of `VALUE_TARGETS` returns the targets [N, T] and the slots that the critic learns from
[N, T]. Its lambda is not the policy's: long samples need lambda 1 here (VC-PPO, arXiv:2503.01491).
Targets are computed from raw advantages, never from whitened ones.
"""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics
from rljax.objectives.advantages.trajectory import trajectory_returns
from rljax.objectives.credit.component_gae import component_returns
from rljax.objectives.credit.gae import TRUNCATIONS, check_unit, generalized_advantages
from rljax.objectives.credit.macro_gae import macro_returns
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field

# Returns whose variance is below this share of their mean square count as equal: the variance is a
# difference of two float32 sums.
NO_VARIANCE = 1e-6


def td_lambda_returns(
    values: Array, rewards: Array, mask: Array, *, gamma: float = 1.0, lam: float = 0.95
) -> Array:
    """TD(lambda) returns, the targets of a value function (VAS, arXiv:2405.06639).

        delta[t]  = r[t] + gamma * V[t+1] - V[t],   with V = 0 after the end
        A[t]      = delta[t] + gamma * lam * A[t+1]
        return[t] = A[t] + V[t]

    t + 1 is the next slot with a True mask: slots in between, such as the output of a tool, are
    skipped. lam = 1 gives the discounted sum of rewards, lam = 0 gives r[t] + gamma * V[t+1].

    Args:
        values: [N, T] f32, of the policy that sampled.
        rewards: [N, T] f32, reward for the token in slot t.
        mask: [N, T] bool, True on the tokens of the completion.
        gamma: discount per token, in [0, 1].
        lam: weight of longer returns, in [0, 1].

    Returns:
        [N, T] f32, constant, zero outside the mask. Masked slots may hold anything, NaN included.

    Raises:
        ValueError: if `gamma` or `lam` lies outside [0, 1].
    """
    check_unit(gamma=gamma, lam=lam)
    advantages = generalized_advantages(rewards, values, mask, gamma=gamma, gae_lambda=lam)
    return advantages + jnp.where(mask, jax.lax.stop_gradient(values), 0.0)


def lambda_returns(
    token_rewards: Array,
    values: Array,
    mask: Array,
    finished: Array,
    *,
    gamma: float = 1.0,
    value_lambda: float = 1.0,
    truncation: str = "terminal",
) -> tuple[Array, Array]:
    """TD(lambda) returns whose lambda is not the policy's (VC-PPO, arXiv:2503.01491, section 4.2).

    With `hold` and `drop` the critic learns only from rows that ended by themselves, as in T-PPO
    (arXiv:2506.15050): the target of a cut-off row would come from the critic itself.

    Args:
        token_rewards: [N, T] f32; an outcome is on the last True slot.
        values: [N, T] f32, of the state before each token.
        mask: [N, T] bool.
        finished: [N] bool, ended by itself.
        gamma: discount per token, in [0, 1].
        value_lambda: lambda of the critic's targets, in [0, 1]; 1 is the sum of rewards to come.
        truncation: what a cut-off row is worth at its end: terminal, hold or drop.

    Returns:
        [N, T] f32 targets, constant, zero where the critic does not learn; [N, T] bool, where it
        does.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(value_lambda=value_lambda)
    check_field("truncation", truncation, TRUNCATIONS.__contains__, f"one of {TRUNCATIONS}")
    chex.assert_shape(finished, (mask.shape[0],))
    learnt = mask if truncation == "terminal" else mask & finished[:, None]
    return td_lambda_returns(values, token_rewards, learnt, gamma=gamma, lam=value_lambda), learnt


def prompt_mean(scores: Array, group_ids: Array, mask: Array) -> tuple[Array, Array]:
    """The mean score of a prompt's samples, as the value of the prompt alone.

        L_V = (V(x) - mean_j r_j)^2        (PCL, arXiv:2510.01135, section 4)

    The critic reads what comes before the first token, which all samples of a prompt share.

    Args:
        scores: [N] f32.
        group_ids: [N] i32.
        mask: [N, T] bool.

    Returns:
        [N, T] f32 targets, constant, zero elsewhere; [N, T] bool, the first token of each row.
    """
    present = mask.any(axis=-1)
    mean = group_statistics(jax.lax.stop_gradient(scores), present, group_ids).mean
    first = mask & (jnp.cumsum(mask, axis=-1) == 1)
    return jnp.where(first, mean[:, None], 0.0), first


VALUE_TARGETS = {
    "component_returns": component_returns,
    "lambda_returns": lambda_returns,
    "macro_returns": macro_returns,
    "prompt_mean": prompt_mean,
    "trajectory_returns": trajectory_returns,
}


def value_loss(values: Array, returns: Array, mask: Array) -> tuple[Array, dict[str, SumCount]]:
    """Half the squared distance of each value from its return (VAS, arXiv:2405.06639).

    Args:
        values: [N, T] f32, differentiated.
        returns: [N, T] f32, constant; see `td_lambda_returns`.
        mask: [N, T] bool.

    Returns:
        [N, T] loss, zero outside the mask, and metrics over tokens: `value` and `return`, and the
        mean squared error `value_error`. Masked slots may hold anything, NaN included.
    """
    chex.assert_rank(values, 2)
    chex.assert_equal_shape([values, returns, mask])
    # Masked before squaring: NaN * 0 would be NaN in the backward pass.
    error = jnp.where(mask, values - jax.lax.stop_gradient(returns), 0.0)
    metrics = {
        "value": masked(values, mask),
        "return": masked(returns, mask),
        "value_error": masked(error**2, mask),
    }
    return 0.5 * error**2, metrics


def critic_loss(
    new_values: Array,
    values: Array,
    returns: Array,
    value_mask: Array,
    *,
    value_clip: float | None = 0.5,
) -> tuple[Array, dict[str, SumCount]]:
    """Clipped value loss of PPO (arXiv:1707.06347's code; verl, OpenRLHF).

        clipped = V_old + clip(V - V_old, -value_clip, value_clip)
        loss    = max((V - return)^2, (clipped - return)^2) / 2

    A value that is already more than `value_clip` nearer to its return has no gradient. With
    returns of scale 10, a clip of 0.2 nearly freezes the critic.

    Args:
        new_values: [N, T] f32, from the critic that is trained, differentiated.
        values: [N, T] f32, from the critic at the step's start.
        returns: [N, T] f32, from a part of `VALUE_TARGETS`.
        value_mask: [N, T] bool, from the same part.
        value_clip: how far a value may change in one step, in units of the returns (0.5 in verl and
            OpenRLHF, 0.2 in tunix and MA-RLHF); None for off.

    Returns:
        [N, T] loss, zero outside the mask, and metrics over tokens: those of `value_loss`;
        `return_square` and `value_residual` (V - return), from which `explained_variance` is
        computed once they are added up; and with a clip `value_clip_share`, tokens whose clipped
        square is the larger.

    Raises:
        ValueError: if `value_clip` is not positive.
    """
    check_field("value_clip", value_clip, lambda x: x > 0, "> 0, or None to switch it off")
    chex.assert_equal_shape([new_values, values, returns, value_mask])
    loss, metrics = value_loss(new_values, returns, value_mask)
    metrics["return_square"] = masked(returns**2, value_mask)
    metrics["value_residual"] = masked(new_values - returns, value_mask)
    if value_clip is None:
        return loss, metrics
    old = jax.lax.stop_gradient(values)
    # Not old + clip(V - old): rounding would change values that are inside.
    near = jnp.clip(new_values, old - value_clip, old + value_clip)
    clipped, _ = value_loss(near, returns, value_mask)
    stopped = clipped > loss
    metrics["value_clip_share"] = masked(stopped, value_mask)
    # A choice instead of a maximum, whose gradient at a tie would be split.
    return jnp.where(stopped, clipped, loss), metrics


def explained_variance(metrics: Mapping[str, SumCount]) -> Array:
    """1 - Var(return - V) / Var(return), from sums over the whole batch.

    Args:
        metrics: from `critic_loss`, added up over micro-batches and devices.

    Returns:
        [] f32: 1 for a critic that is right up to a constant, 0 for a constant critic, negative for
        a worse one; 0 where the returns do not vary.
    """
    square = metrics["return_square"].mean()
    variance = square - metrics["return"].mean() ** 2
    residual = metrics["value_error"].mean() - metrics["value_residual"].mean() ** 2
    varies = variance > NO_VARIANCE * square
    return jnp.where(varies, 1.0 - residual / jnp.where(varies, variance, 1.0), 0.0)
