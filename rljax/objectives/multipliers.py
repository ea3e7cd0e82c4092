"""Several rewards, each held at a threshold by a multiplier that is learned (arXiv:2310.04373).

    component advantages ─► normalised, each by itself ─► mixed by the multipliers ─► the update
                                     rewards to go of the update ─► the multipliers' own update

A multiplier is a raw number; squashed it is the weight of its reward. A reward that is worth more
than its threshold loses weight, and what the rewards lose the KL to the reference gains.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import mean_of, ratio
from rljax.objectives.parts import check_field

# What a threshold asks for -> how a multiplier becomes a weight. mu-PPO's weights are in (0, 1);
# xi-PPO's in (-1, 1), so that a reward beyond its threshold is pushed down.
THRESHOLD_KINDS = {"at_least": jax.nn.sigmoid, "equal": jnp.tanh}

# When the multipliers move.
MULTIPLIER_STEPS = ("update", "step")


def mixing_weights(multipliers: Array, *, threshold_kind: str = "at_least") -> Array:
    """The weights of the rewards, [C] f32, differentiated.

    Args:
        multipliers: [C] f32, raw.
        threshold_kind: at_least: sigmoid, in (0, 1); equal: tanh, in (-1, 1).

    Raises:
        ValueError: for another kind.
    """
    kinds = ", ".join(THRESHOLD_KINDS)
    check_field("threshold_kind", threshold_kind, THRESHOLD_KINDS.__contains__, f"one of {kinds}")
    return THRESHOLD_KINDS[threshold_kind](multipliers)


def mix(component_advantages: Array, weights: Array) -> Array:
    """A = (C - sum_i w_i) A_KL + sum_i w_i A_i.

    Args:
        component_advantages: [..., 1 + C] f32, of the KL and of C rewards.
        weights: [C] f32, constant here.

    Returns:
        [...] f32.
    """
    weights = jax.lax.stop_gradient(weights)
    of_kl = len(weights) - weights.sum()
    return component_advantages @ jnp.concatenate([of_kl[None], weights])


def normalised(values: Array, mask: Array, epsilon: float) -> Array:
    """(x - mean) / (unbiased deviation + epsilon) over the True slots; zero outside.

    Args:
        values: [N, T] f32; masked slots may hold anything, NaN included.
        mask: [N, T] bool.
        epsilon: added to the deviation.
    """
    centred = jnp.where(mask, values - mean_of(values, mask), 0.0)
    deviation = jnp.sqrt((centred**2).sum() / jnp.maximum(mask.sum() - 1, 1))
    return ratio(centred, deviation + epsilon)


def mixed_components(
    component_advantages: Array,
    multipliers: Array,
    mask: Array,
    *,
    threshold_kind: str = "at_least",
    component_epsilon: float = 1e-8,
) -> Array:
    """Advantages of the KL and of each reward, normalised one by one and mixed (2310.04373).

        A = (C - sum_i w_i) A_KL + sum_i w_i A_i

    All weights 1: the KL has no say. All weights 0: the KL alone is learned. In training they are
    normalised over an update, and mixed by the multipliers that it finds.

    Args:
        component_advantages: [N, T, 1 + C] f32, the KL's first.
        multipliers: [C] f32, raw, constant.
        mask: [N, T] bool.
        threshold_kind: at_least: weights in (0, 1), mu-PPO; equal: in (-1, 1), xi-PPO.
        component_epsilon: added to the deviation of each component's advantages.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_field("component_epsilon", component_epsilon, lambda x: x >= 0, ">= 0")
    own = jax.vmap(normalised, in_axes=(-1, None, None), out_axes=-1)
    values = own(jax.lax.stop_gradient(component_advantages), mask, component_epsilon)
    weights = mixing_weights(multipliers, threshold_kind=threshold_kind)
    return jnp.where(mask, mix(values, weights), 0.0)


def multiplier_loss(
    multipliers: Array, reached: Array, thresholds: Array, *, threshold_kind: str = "at_least"
) -> Array:
    """L = sum_i w_i (v_i - theta_i), minimised by the multipliers: v above theta lowers w.

    Args:
        multipliers: [C] f32, raw, differentiated.
        reached: [C] f32, v, constant.
        thresholds: [C] f32, theta.
        threshold_kind: of `mixing_weights`.

    Returns:
        [] f32.
    """
    weights = mixing_weights(multipliers, threshold_kind=threshold_kind)
    return weights @ (jax.lax.stop_gradient(reached) - thresholds)


def move_multipliers(
    multipliers: Array,
    multiplier_momentum: Array,
    rewards_to_go: Array,
    mask: Array,
    *,
    thresholds: tuple[float, ...] = (),
    threshold_kind: str = "at_least",
    multiplier_rate: float = 0.1,
    multiplier_decay: float = 0.1,
    multiplier_clip: float | None = 0.5,
) -> tuple[Array, Array]:
    """The multipliers after a step of SGD with momentum on their own loss.

        momentum' = decay * momentum + gradient,   multiplier' = multiplier - rate * momentum'

    v_i is the mean over the True slots of what reward i brings from there on, as the critic learns
    it, so that long samples weigh more. Without a True slot nothing moves. The paper clips the
    gradient and its bound was not seen: 0.5 is that of the library that its code is built on.

    Args:
        multipliers: [C] f32, raw.
        multiplier_momentum: [C] f32, 0 at first.
        rewards_to_go: [N, T, C] f32.
        mask: [N, T] bool.
        thresholds: the value at which each reward is held, in the order of config.scoring.rewards.
        threshold_kind: at_least or equal, see `mixing_weights`.
        multiplier_rate: learning rate of the multipliers, >= 0.
        multiplier_decay: share of the momentum that is kept, in [0, 1).
        multiplier_clip: largest norm of their gradient; None for no limit.

    Returns:
        [C] f32 multipliers and [C] f32 momentum, constant.

    Raises:
        ValueError: for a field outside its range.
    """
    check_field("multiplier_rate", multiplier_rate, lambda x: x >= 0, ">= 0")
    check_field("multiplier_decay", multiplier_decay, lambda x: 0 <= x < 1, "in [0, 1)")
    check_field("multiplier_clip", multiplier_clip, lambda x: x > 0, "> 0, or None for no limit")
    wanted = jnp.asarray(thresholds, jnp.float32)
    gradient = jax.grad(multiplier_loss)(
        multipliers, values_reached(rewards_to_go, mask), wanted, threshold_kind=threshold_kind
    )
    if multiplier_clip is not None:
        norm = jnp.sqrt((gradient**2).sum())
        gradient = gradient * jnp.minimum(1.0, multiplier_clip / jnp.maximum(norm, multiplier_clip))
    momentum = multiplier_decay * multiplier_momentum + gradient
    moved = multipliers - multiplier_rate * momentum
    seen = mask.any()
    return jnp.where(seen, moved, multipliers), jnp.where(seen, momentum, multiplier_momentum)


def values_reached(rewards_to_go: Array, mask: Array) -> Array:
    """What each reward is worth, [C] f32: the mean of [N, T, C] over the True slots of [N, T]."""
    own = jax.vmap(mean_of, in_axes=(-1, None))
    return own(jax.lax.stop_gradient(rewards_to_go), mask)


def first_multipliers(count: int) -> Array:
    """The multipliers before training, [count] f32: one draw from N(0, 0.01^2) for every run."""
    return 0.01 * jax.random.normal(jax.random.key(0), (count,))
