"""Learning a value function: targets from rewards, and the loss against them."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


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
    for name, value in {"gamma": gamma, "lam": lam}.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}; it must lie in [0, 1].")
    chex.assert_rank(values, 2)
    chex.assert_equal_shape([values, rewards, mask])

    def earlier(after: tuple[Array, Array], slot: tuple[Array, Array, Array]):
        next_value, next_advantage = after
        value, reward, counts = slot
        advantage = reward + gamma * next_value - value + gamma * lam * next_advantage
        here = (value, advantage)
        kept = tuple(jnp.where(counts, new, old) for new, old in zip(here, after, strict=True))
        return kept, jnp.where(counts, advantage + value, 0.0)

    slots = tuple(jax.lax.stop_gradient(x).T for x in (values, rewards, mask))
    end = jnp.zeros(values.shape[0], values.dtype)
    _, returns = jax.lax.scan(earlier, (end, end), slots, reverse=True)
    return returns.T


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
