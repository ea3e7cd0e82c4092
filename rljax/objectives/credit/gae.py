"""Generalised advantage estimation over tokens, with a critic.

The value of the state after the last token depends on why the row ended. If it ended by itself
(`finished`), the state is terminal: 0. For a row that was cut off there is a choice:

| truncation | value after the last token | for |
| --- | --- | --- |
| `terminal` | 0, as if the row had ended | PPO in verl; punishes length |
| `hold` | the value before the last token | T-PPO's EGAE (arXiv:2506.15050) |
| `drop` | the row gets advantage 0 and enters no statistic | |

With `hold` and `drop` the rewards of a cut-off row must hold no outcome: it was not judged yet.
`drop` leaves the row's tokens in the mask; a selection that removes them also takes them out of the
divisor of the loss.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.slots import at_last_slot
from rljax.objectives.parts import check_field
from rljax.objectives.whitening import whiten

TRUNCATIONS = ("terminal", "hold", "drop")


def check_unit(**fields) -> None:
    """Raises ValueError for a field outside [0, 1]."""
    for name, value in fields.items():
        check_field(name, value, lambda x: 0.0 <= x <= 1.0, "in [0, 1]")


def generalized_advantages(
    token_rewards: Array,
    values: Array,
    mask: Array,
    last_values: Array | float = 0.0,
    *,
    gamma: float = 1.0,
    gae_lambda: float | Array = 0.95,
) -> Array:
    """Exponentially weighted sum of TD errors (GAE, arXiv:1506.02438, eq. 16).

        delta[t] = r[t] + gamma * V[t+1] - V[t]
        A[t]     = delta[t] + gamma * lambda * A[t+1]

    t + 1 is the next True slot: holes (the output of a tool, say) and padding on either side are
    skipped. After the last True slot V is `last_values`.

    Args:
        token_rewards: [N, T], any numeric type.
        values: [N, T] f32, of the state before each token.
        mask: [N, T] bool.
        last_values: [N] f32 or a number, of the state after the last True slot.
        gamma: discount per step.
        gae_lambda: a number or [N] f32.

    Returns:
        [N, T] f32, constant, zero outside the mask. Masked slots may hold anything, NaN included.
    """
    chex.assert_rank(values, 2)
    chex.assert_equal_shape([token_rewards, values, mask])
    dtype = jnp.result_type(token_rewards, values, float)
    rewards, values, last_values = (
        jax.lax.stop_gradient(jnp.asarray(x).astype(dtype))
        for x in (token_rewards, values, last_values)
    )

    def earlier(after: tuple[Array, Array], slot: tuple[Array, Array, Array]):
        next_value, next_advantage = after
        reward, value, counts = slot
        advantage = reward + gamma * next_value - value + gamma * gae_lambda * next_advantage
        kept_value = jnp.where(counts, value, next_value)
        kept = jnp.where(counts, advantage, next_advantage).astype(dtype)
        return (kept_value, kept), jnp.where(counts, kept, 0.0)

    rows = values.shape[0]
    end = (jnp.broadcast_to(last_values, (rows,)), jnp.zeros((rows,), dtype))
    _, advantages = jax.lax.scan(earlier, end, (rewards.T, values.T, mask.T), reverse=True)
    return advantages.T


def cut_off_rows(
    values: Array, mask: Array, finished: Array, truncation: str
) -> tuple[Array, Array]:
    """What `truncation` makes of rows that were cut off.

    Args:
        values: [N, T] f32.
        mask: [N, T] bool.
        finished: [N] bool.
        truncation: one of `TRUNCATIONS`.

    Returns:
        [N, T] bool, slots that get an advantage, and [N] f32, values after the last token.

    Raises:
        ValueError: for an unknown `truncation`.
    """
    check_field("truncation", truncation, TRUNCATIONS.__contains__, f"one of {TRUNCATIONS}")
    chex.assert_shape(finished, (mask.shape[0],))
    if truncation == "drop":
        return mask & finished[:, None], jnp.zeros_like(values[:, 0])
    if truncation == "terminal":
        return mask, jnp.zeros_like(values[:, 0])
    return mask, jnp.where(finished, 0.0, at_last_slot(values, mask))


def _whitened(advantages: Array, mask: Array, whiten_advantages: bool, epsilon: float) -> Array:
    check_field("whiten_epsilon", epsilon, lambda x: x >= 0, ">= 0")
    return whiten(advantages, mask, epsilon=epsilon) if whiten_advantages else advantages


def gae(
    token_rewards: Array,
    values: Array,
    mask: Array,
    finished: Array,
    *,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
    whiten_advantages: bool = True,
    whiten_epsilon: float = 1e-8,
    truncation: str = "terminal",
) -> Array:
    """GAE of a critic (PPO, arXiv:1707.06347; with `hold`: T-PPO, arXiv:2506.15050).

    Args:
        token_rewards: [N, T] f32; an outcome is on the last True slot.
        values: [N, T] f32, of the state before each token, by the critic of the step's start.
        mask: [N, T] bool.
        finished: [N] bool, ended by itself; False: cut off at the length limit.
        gamma: discount per token, in [0, 1].
        gae_lambda: weight of later TD errors, in [0, 1]; a terminal reward reaches a token n
            earlier with weight lambda^n.
        whiten_advantages: mean 0 and unbiased variance 1 over all tokens.
        whiten_epsilon: added to the variance that advantages are whitened with.
        truncation: what a cut-off row is worth at its end: terminal, hold or drop.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma, gae_lambda=gae_lambda)
    counted, last_values = cut_off_rows(values, mask, finished, truncation)
    advantages = generalized_advantages(
        token_rewards, values, counted, last_values, gamma=gamma, gae_lambda=gae_lambda
    )
    return _whitened(advantages, counted, whiten_advantages, whiten_epsilon)


def length_adaptive_lambda(
    lengths: Array, *, length_alpha: float = 0.05, clip: bool = True
) -> Array:
    """lambda = 1 - 1 / (alpha * l): the weights lambda^t add up to alpha * l (VAPO, 2504.05118).

    Args:
        lengths: [N] i32, tokens of each row; 0 counts as 1.
        length_alpha: share of a row over which credit is spread.
        clip: clips lambda to [0, 1]. The equation alone is negative for rows shorter than
            1 / alpha; the paper says nothing about them.

    Returns:
        [N] f32.

    Raises:
        ValueError: if `length_alpha` is not positive.
    """
    check_field("length_alpha", length_alpha, lambda x: x > 0, "> 0")
    gae_lambda = 1.0 - 1.0 / (length_alpha * jnp.maximum(lengths, 1).astype(float))
    return jnp.clip(gae_lambda, 0.0, 1.0) if clip else gae_lambda


def gae_length_adaptive(
    token_rewards: Array,
    values: Array,
    mask: Array,
    finished: Array,
    *,
    gamma: float = 1.0,
    length_alpha: float = 0.05,
    whiten_advantages: bool = True,
    whiten_epsilon: float = 1e-8,
    truncation: str = "terminal",
) -> Array:
    """GAE with lambda = 1 - 1 / (alpha * l) for a row of l tokens (VAPO, arXiv:2504.05118).

    Args:
        token_rewards: [N, T] f32; an outcome is on the last True slot.
        values: [N, T] f32, of the state before each token.
        mask: [N, T] bool; l is the number of its True slots.
        finished: [N] bool, ended by itself.
        gamma: discount per token, in [0, 1].
        length_alpha: share of a row over which credit is spread, > 0.
        whiten_advantages: mean 0 and unbiased variance 1 over all tokens.
        whiten_epsilon: added to the variance that advantages are whitened with.
        truncation: what a cut-off row is worth at its end: terminal, hold or drop.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma)
    counted, last_values = cut_off_rows(values, mask, finished, truncation)
    gae_lambda = length_adaptive_lambda(mask.sum(axis=-1), length_alpha=length_alpha)
    advantages = generalized_advantages(
        token_rewards, values, counted, last_values, gamma=gamma, gae_lambda=gae_lambda
    )
    return _whitened(advantages, counted, whiten_advantages, whiten_epsilon)
