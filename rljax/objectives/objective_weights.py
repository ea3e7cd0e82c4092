"""Weights of several rewards by what their gradients do for each other (arXiv:2509.11452).

The gradient of one reward may help the others, or work against them. A reward whose gradient
helps all of them gains weight; one that is solved has no gradient, and loses it.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field


def influences(gram: Array) -> Array:
    """I_k = <g_k, sum_j g_j>, [C] f32: row sums of the products [C, C] of all gradients."""
    return gram.sum(axis=1)


def objective_weighted(components: Array, objective_weights: Array) -> Array:
    """Scores by the weights of the step: sum_k w_k R_k.

    Args:
        components: [N, C] f32, the value of each reward.
        objective_weights: [C] f32, on the simplex.

    Returns:
        [N] f32, constant.
    """
    return jax.lax.stop_gradient(components @ objective_weights)


def move_objective_weights(
    objective_weights: Array,
    gradient_influences: Array,
    learning_rate: Array,
    *,
    weight_scale: float = 1e-5,
) -> Array:
    """The weights after a step of exponentiated gradient: softmax(log w + lr I / mu).

    Equal influences change nothing, and a weight of 0 stays 0.

    Args:
        objective_weights: [C] f32, on the simplex.
        gradient_influences: [C] f32, of `influences`.
        learning_rate: [] f32, of the policy's next update.
        weight_scale: mu, > 0. Influences grow with the number of parameters that are asked: find
            it anew for other layers.

    Returns:
        [C] f32, on the simplex, constant.

    Raises:
        ValueError: if `weight_scale` is not positive.
    """
    check_field("weight_scale", weight_scale, lambda x: x > 0, "> 0")
    push = jax.lax.stop_gradient(learning_rate * gradient_influences / weight_scale)
    return jax.nn.softmax(jnp.log(objective_weights) + push)


def first_objective_weights(count: int) -> Array:
    """Equal weights, [count] f32."""
    return jnp.full((count,), 1.0 / count)
