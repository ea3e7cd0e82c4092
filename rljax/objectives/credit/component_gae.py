"""GAE of each of several rewards by itself, and what a critic with a head for each learns.

The first component is the KL to the reference, a reward of every token; the others are the rewards
of config.scoring that are trained on, on the last token of a sample (arXiv:2310.04373).
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.gae import check_unit, generalized_advantages
from rljax.objectives.credit.outcomes import place_outcomes
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field


def component_rewards(components: Array, kl_rewards: Array, mask: Array) -> Array:
    """The KL and each reward as rewards of tokens, [N, T, 1 + C] f32, constant.

    Args:
        components: [N, C] f32, the value of each reward, before weights.
        kl_rewards: [N, T] f32, minus the weighted KL of each token.
        mask: [N, T] bool.
    """
    outcomes = jax.vmap(place_outcomes, in_axes=(1, None), out_axes=-1)(components, mask)
    of_kl = jnp.where(mask, jax.lax.stop_gradient(kl_rewards), 0.0)
    return jnp.concatenate([of_kl[..., None], outcomes], axis=-1)


def component_advantages(
    component_rewards: Array,
    component_values: Array,
    mask: Array,
    *,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
) -> Array:
    """The GAE of each component by its own values (arXiv:2310.04373), not normalised.

    Args:
        component_rewards: [N, T, 1 + C] f32.
        component_values: [N, T, 1 + C] f32, of the state before each token.
        mask: [N, T] bool.
        gamma: discount per token, in [0, 1].
        gae_lambda: weight of later TD errors, in [0, 1].

    Returns:
        [N, T, 1 + C] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma, gae_lambda=gae_lambda)

    def one(rewards: Array, values: Array) -> Array:
        return generalized_advantages(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)

    return jax.vmap(one, in_axes=-1, out_axes=-1)(component_rewards, component_values)


def rewards_to_go(component_rewards: Array, mask: Array, *, gamma: float = 1.0) -> Array:
    """What each reward brings from a token on, without the KL: [N, T, C] f32, constant.

    Args:
        component_rewards: [N, T, 1 + C] f32.
        mask: [N, T] bool.
        gamma: discount per token, in [0, 1].
    """
    own = component_rewards[..., 1:]
    return component_advantages(own, jnp.zeros_like(own), mask, gamma=gamma, gae_lambda=1.0)


def component_returns(
    component_advantages: Array, component_values: Array, mask: Array
) -> tuple[Array, Array]:
    """The targets of a critic with a head for each component: advantage + value.

    Args:
        component_advantages: [N, T, 1 + C] f32, not normalised.
        component_values: [N, T, 1 + C] f32, of the critic at the step's start.
        mask: [N, T] bool.

    Returns:
        [N, T, 1 + C] f32, constant, zero outside the mask; [N, T] bool, the mask.
    """
    told = jax.lax.stop_gradient(component_advantages + component_values)
    return jnp.where(mask[..., None], told, 0.0), mask


def component_critic_loss(
    new_component_values: Array,
    component_values: Array,
    component_returns: Array,
    value_mask: Array,
    *,
    component_value_clip: float | None = None,
    kl_value_weight: float = 0.2,
    reward_value_weight: float = 0.5,
) -> tuple[Array, dict[str, SumCount]]:
    """The weighted squared error of each head (arXiv:2310.04373).

        loss = sum_i weight_i (V_i - return_i)^2,   V_i within old V_i +- clip

    Unlike PPO's there is no maximum with the value without the clip: one beyond it has no gradient.

    Args:
        new_component_values: [N, T, 1 + C] f32, of the critic that is trained, differentiated.
        component_values: [N, T, 1 + C] f32, of the critic at the step's start.
        component_returns: [N, T, 1 + C] f32, constant.
        value_mask: [N, T] bool.
        component_value_clip: how far a value may change in one step; None for off.
        kl_value_weight: weight of the head of the KL, >= 0.
        reward_value_weight: weight of the head of each reward, >= 0.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `value_error`: the mean squared error
        over tokens and heads.

    Raises:
        ValueError: for a field outside its range.
    """
    clip = component_value_clip
    check_field("component_value_clip", clip, lambda x: x > 0, "> 0, or None to switch it off")
    check_field("kl_value_weight", kl_value_weight, lambda x: x >= 0, ">= 0")
    check_field("reward_value_weight", reward_value_weight, lambda x: x >= 0, ">= 0")
    found, old = new_component_values, jax.lax.stop_gradient(component_values)
    if clip is not None:
        found = jnp.clip(found, old - clip, old + clip)
    learnt = jnp.broadcast_to(value_mask[..., None], found.shape)
    # Masked before squaring: NaN * 0 would be NaN in the backward pass.
    error = jnp.where(learnt, found - jax.lax.stop_gradient(component_returns), 0.0)
    rewards = found.shape[-1] - 1
    weights = jnp.asarray([kl_value_weight, *[reward_value_weight] * rewards], error.dtype)
    return error**2 @ weights, {"value_error": masked(error**2, learnt)}
