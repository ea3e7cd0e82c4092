"""Several rewards, weighed by how fast and how unsteadily each is still learned (RECAP)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.components import component_zscore
from rljax.objectives.means import mean_of
from rljax.objectives.parts import check_field


class Progress(NamedTuple):
    """What the losses of two windows say, [K] f32 each."""

    convergence: Array  # mean of the earlier / of the later one
    instability: Array  # deviation of all losses from the later mean / sum of both means


def progress(loss_history: Array, loss_epsilon: float) -> Progress:
    """Convergence and instability of losses [K, 2 W], the oldest first; an epsilon on each mean."""
    before, now = (x.mean(axis=1) for x in jnp.split(loss_history, 2, axis=1))
    squares = ((loss_history - now[:, None]) ** 2).sum(axis=1)
    deviation = jnp.sqrt(squares / (loss_history.shape[1] - 1))
    before, now = before + loss_epsilon, now + loss_epsilon
    return Progress(before / now, deviation / (before + now))


def progress_weights(
    loss_history: Array, *, reweight_temperature: float = 5.0, loss_epsilon: float = 0.01
) -> Array:
    """lambda = K softmax(s / T), s = convergence + instability (arXiv:2510.21978), [K] f32.

        convergence = mu_before / mu_now            about 1 where nothing changes any more
        instability = deviation / (mu_before + mu_now)

    over two windows of W losses: mu is the mean of each, and the deviation that of all 2 W from
    mu_now, with the divisor 2 W - 1. A rising loss lowers its weight. The authors' code has half of
    each, which is the double temperature. A loss near 0 makes the paper's convergence explode:
    `loss_epsilon` is added to both means, and is not the paper's.

    Args:
        loss_history: [K, 2 W] f32, >= 0, the oldest first; NaN: not yet seen.
        reweight_temperature: T, > 0; a large one gives equal weights.
        loss_epsilon: added to the mean of each window, >= 0.

    Returns:
        [K] f32, constant, of sum K; 1 each until all losses are there.

    Raises:
        ValueError: for a field outside its range.
    """
    check_field("reweight_temperature", reweight_temperature, lambda x: x > 0, "> 0")
    check_field("loss_epsilon", loss_epsilon, lambda x: x >= 0, ">= 0")
    found = progress(loss_history, loss_epsilon)
    state = found.convergence + found.instability
    weights = len(loss_history) * jax.nn.softmax(state / reweight_temperature)
    seen = jnp.isfinite(loss_history).all()
    return jax.lax.stop_gradient(jnp.where(seen, weights, 1.0))


def next_loss_history(
    loss_history: Array,
    components: Array,
    component_applies: Array,
    mask: Array,
    *,
    loss_window: int = 10,
    largest_reward: float = 1.0,
) -> Array:
    """The losses of the last steps, with this step's: largest reward - mean reward, not below 0.

    A reward that applies to no sample of the step has no new loss.

    Args:
        loss_history: [C, 2 W] f32, the oldest first.
        components: [N, C] f32, the value of each reward, before weights.
        component_applies: [N, C] bool, the reward judges the sample, such as those of its domain.
        mask: [N, T] bool.
        loss_window: W, steps of each of the two windows that are compared.
        largest_reward: the value of a reward that leaves nothing to learn.

    Returns:
        [C, 2 W] f32, constant.

    Raises:
        ValueError: for a window below 1.
    """
    check_field("loss_window", loss_window, lambda x: x >= 1, ">= 1")
    there = component_applies & mask.any(axis=1)[:, None]
    loss = jnp.maximum(largest_reward - mean_of(components, there, axis=0), 0.0)
    longer = jnp.concatenate([loss_history[:, 1:], loss[:, None]], axis=1)
    return jax.lax.stop_gradient(jnp.where(there.any(axis=0)[:, None], longer, loss_history))


def reweighted_components(
    components: Array,
    component_weights: Array,
    component_applies: Array,
    loss_history: Array,
    mask: Array,
    group_ids: Array,
    *,
    advantage_epsilon: float = 1e-6,
    reweight_temperature: float = 5.0,
    loss_epsilon: float = 0.01,
    loss_window: int = 10,
    largest_reward: float = 1.0,
) -> Array:
    """A = sum over rewards of lambda * weight * z-score in the group (RECAP, arXiv:2510.21978).

    lambda follows the losses of the last 2 W steps, this one among them; before there are so many
    all rewards count the same. Rewards of single domains make it weigh data: those of a replay
    beside the task's own (`where`). The paper takes the mean over the samples of each objective;
    here a domain counts by its samples, the same where domains are sampled alike.

    Args:
        components: [N, C] f32, the value of each reward, before weights.
        component_weights: [C] f32.
        component_applies: [N, C] bool.
        loss_history: [C, 2 W] f32, without this step.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        advantage_epsilon: added to each deviation.
        reweight_temperature: T of the softmax; a large one gives equal weights.
        loss_epsilon: added to the mean of each window.
        loss_window: W, steps of each of the two windows that are compared.
        largest_reward: the value of a reward that leaves nothing to learn.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    history = next_loss_history(
        loss_history,
        components,
        component_applies,
        mask,
        loss_window=loss_window,
        largest_reward=largest_reward,
    )
    weights = component_weights * progress_weights(
        history, reweight_temperature=reweight_temperature, loss_epsilon=loss_epsilon
    )
    return component_zscore(
        components, weights, mask, group_ids, advantage_epsilon=advantage_epsilon
    )


def empty_history(count: int, window: int) -> Array:
    """The losses of `count` rewards before the first step, [count, 2 window] f32."""
    return jnp.full((count, 2 * window), jnp.nan)
