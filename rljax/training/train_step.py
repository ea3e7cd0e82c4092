"""The one train step: (state, batch) -> (state, metrics), for every objective."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rljax.models.network import Params
from rljax.objectives.metrics import SumCount
from rljax.training.state import TrainState

Batch = dict[str, Array]  # every array has the same leading axis
Metrics = dict[str, SumCount]
# Sums over the rows given, already divided by what belongs to the WHOLE batch: so the loss of a
# batch is the sum of the losses of its parts, however it is split.
LossFn = Callable[[Params, Batch], tuple[Array, Metrics]]


def split_micro_batches(batch: Batch, count: int) -> Batch:
    """[rows, ...] -> [count, rows / count, ...]; part m holds the rows m, m + count, ...

    The stride keeps the rows of a part spread over the devices as the whole batch is.
    """
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1), batch
    )


def loss_and_gradient(
    loss_fn: LossFn, params: Params, batch: Batch, micro_batches: int
) -> tuple[Array, Metrics, Params]:
    """Loss, metrics and float32 gradient, accumulated over micro-batches."""
    evaluate = jax.value_and_grad(loss_fn, has_aux=True)
    if micro_batches == 1:
        (loss, metrics), gradient = evaluate(params, batch)
        return loss, metrics, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradient)
    parts = split_micro_batches(batch, micro_batches)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(evaluate, params, first)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(
            lambda a, b: a + b.astype(jnp.float32), total, evaluate(params, part)
        ), None

    ((loss, metrics), gradient), _ = jax.lax.scan(add, zeros, parts)
    return loss, metrics, gradient


def make_train_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, *, micro_batches: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the pure update.

    A non-finite loss or gradient leaves parameters and optimizer as they were; the update is
    counted in `state.skipped`.

    Args:
        loss_fn: see `LossFn`.
        optimizer: an optax transformation.
        micro_batches: number of parts that the batch is split into; divides its rows.

    Returns:
        step(state, batch) -> (state, metrics); metrics are (sum, count) pairs.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        loss, metrics, gradient = loss_and_gradient(loss_fn, state.params, batch, micro_batches)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        changes, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, changes)
        keep = lambda new, old: jnp.where(finite, new, old)  # noqa: E731
        skipped = 1 - finite.astype(jnp.int32)
        state = state.replace(
            params=jax.tree.map(keep, params, state.params),
            optimizer_state=jax.tree.map(keep, optimizer_state, state.optimizer_state),
            updates=state.updates + 1,
            skipped=state.skipped + skipped,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * skipped,
        )
        one = jnp.ones(())
        metrics = metrics | {
            "loss": SumCount(jnp.where(finite, loss, 0.0), finite.astype(jnp.float32)),
            "gradient_norm": SumCount(jnp.where(finite, norm, 0.0), finite.astype(jnp.float32)),
            "updates_skipped": SumCount(skipped.astype(jnp.float32), one),
        }
        return state, metrics

    return step
