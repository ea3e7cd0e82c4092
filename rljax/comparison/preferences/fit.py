"""Training of one method on many seeds at once: one jitted program over all of its updates."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rljax.comparison.preferences.draws import Rows
from rljax.comparison.preferences.losses import Loss, loss_for
from rljax.comparison.preferences.methods import ASSUME_NOISE, objective_of

UPDATES, ROWS_PER_UPDATE = 300, 20


def fitted(loss: Loss, updates: int) -> Callable[[Array, Array, Rows, Array], Array]:
    """A program that trains S policies side by side.

    Adam whose rate falls to 0 on a line; rows are shuffled anew in every pass over them.

    Args:
        loss: of `loss_for`.
        updates: of each policy.

    Returns:
        (keys [S], start [S, X, V + 1, V + 1], rows with leading axis S, rates [S]) -> logits, of
        the shape of `start`.
    """

    def one(key: Array, start: Array, rows: Rows, rate: Array) -> Array:
        count = len(rows.prompts)
        per_pass = count // ROWS_PER_UPDATE
        keys = jax.random.split(key, -(-updates // per_pass))
        orders = jax.vmap(lambda k: jax.random.permutation(k, count))(keys)
        batches = orders[:, : per_pass * ROWS_PER_UPDATE].reshape(-1, ROWS_PER_UPDATE)[:updates]
        adam = optax.scale_by_adam()

        def update(carry, inputs):
            logits, state = carry
            places, left = inputs
            batch = jax.tree.map(lambda array: array[places], rows)
            gradient = jax.grad(loss)(logits, start, batch)
            step, state = adam.update(gradient, state)
            return (logits - rate * left * step, state), None

        left = 1.0 - jnp.arange(updates) / updates
        (logits, _), _ = jax.lax.scan(update, (start, adam.init(start)), (batches, left))
        return logits

    return jax.jit(jax.vmap(one))


@functools.cache
def program(method: str, noise: float, updates: int = UPDATES) -> Callable:
    """`fitted` of a method at a rate of swapped labels; one program where it does not read that."""
    if noise and method not in ASSUME_NOISE:
        return program(method, 0.0, updates)
    return fitted(loss_for(objective_of(method, noise)), updates)
