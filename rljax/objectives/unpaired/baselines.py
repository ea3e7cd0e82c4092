"""What a loss knows of all completions of an update: constants, found over the whole batch."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def kl_estimate(mismatched_log_ratios: Array, present: Array) -> Array:
    """KTO's baseline: the mean log-ratio of completions under prompts of other completions.

        z = max(0, mean log policy(y' | x) / reference(y' | x))

    Args:
        mismatched_log_ratios: [N] f32, sums over the tokens of y'; [N, H], over those of its steps.
        present: of the same shape, bool, y' or its step has a token; others are not counted.

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
