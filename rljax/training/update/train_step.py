"""The one train step: (state, frozen, batch) -> (state, metrics), for every objective."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from rljax.models.frozen_base import parameter_shardings
from rljax.models.lora import (
    ROUTER_BIAS,
    combine,
    flatten,
    split_frozen,
    split_held,
    unflatten,
)
from rljax.models.network import Network, Params
from rljax.objectives.balance import bias_update, max_violation
from rljax.objectives.diagnostics import gradient_noise
from rljax.objectives.metrics import GradientNoise, Metric, SumCount
from rljax.parallel.rules import batch_sharding, replicated
from rljax.training.update.beside import BESIDE, UpdateBeside, shardings_of
from rljax.training.update.optimizers import Optimizer
from rljax.training.update.rounding import apply_updates
from rljax.training.update.state import Carried, TrainState, state_shardings

Batch = dict[str, Array]  # every array has the same leading axis
Metrics = dict[str, Metric]
# Sums over the rows given, already divided by what belongs to the WHOLE batch: so the loss of a
# batch is the sum of the losses of its parts, however it is split.
LossFn = Callable[[Params, Batch], tuple[Array, Metrics]]
# Adds to the whole batch of an update what its parts cannot know by themselves.
PrepareFn = Callable[[Params, Batch], Batch]
# The metric by which a loss tells how many tokens each expert was sent, [L, E]; not logged.
EXPERT_COUNTS = "expert_counts"


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
    return _accumulated(loss_fn, params, batch, micro_batches)[:3]


def _accumulated(
    loss_fn: LossFn, params: Params, batch: Batch, micro_batches: int
) -> tuple[Array, Metrics, Params, Array]:
    """As `loss_and_gradient`; and the sum of the squared norms of what each part adds, [] f32."""
    evaluate = jax.value_and_grad(loss_fn, has_aux=True)

    def measured(part: Batch) -> tuple:
        (loss, metrics), gradient = evaluate(params, part)
        gradient = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradient)
        return loss, metrics, gradient, optax.tree.norm(gradient, squared=True)

    if micro_batches == 1:
        return measured(batch)
    parts = split_micro_batches(batch, micro_batches)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(measured, first)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(lambda a, b: a + b.astype(jnp.float32), total, measured(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    micro_batches: int,
    prepare: PrepareFn | None = None,
    router_bias_rate: float = 0.0,
    rounding_key: Array | None = None,
) -> Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]:
    """Builds the pure update.

    A non-finite loss or gradient leaves parameters and optimizer as they were; the update is
    counted in `state.skipped`. So does a batch without a token to train on (its `mask` is False
    everywhere), which is not counted.

    Args:
        loss_fn: see `LossFn`; it is given all parameters, frozen ones included.
        optimizer: an optax transformation.
        micro_batches: number of parts that the batch is split into; divides its rows.
        prepare: see `PrepareFn`; it is given all parameters, and comes before the split.
        router_bias_rate: step of the balancing bias of routers (objectives/balance.py).
        rounding_key: of the stochastic rounding of bfloat16 parameters; None rounds to nearest.

    Returns:
        step(state, frozen, batch) -> (state, metrics); metrics are sums (objectives/metrics.py).
        With several micro-batches they hold the noise of the gradient. `frozen` is {} without
        adapters.
    """

    def step(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
        optimised, held = split_held(state.params)
        if prepare is not None:
            batch = prepare(combine(state.params, frozen), batch)
        loss, metrics, gradient, squares = _accumulated(
            lambda params, batch: loss_fn(combine(params, held, frozen), batch),
            optimised,
            batch,
            micro_batches,
        )
        counts = metrics.pop(EXPERT_COUNTS, None)
        if counts is not None:
            violation = max_violation(counts.total)
            metrics["max_violation"] = SumCount(violation.sum(), jnp.float32(len(violation)))
        if counts is not None and router_bias_rate:
            held = _balanced(held, counts.total, router_bias_rate)
        finite = jnp.isfinite(loss)
        state, moved = optimizer_step(
            state,
            gradient,
            optimizer,
            held=held,
            finite=finite,
            learns=batch["mask"].any() if "mask" in batch else True,
            rounding_key=rounding_key,
        )
        finite &= moved["gradient_norm"].count > 0
        metrics = metrics | moved
        metrics["loss"] = SumCount(jnp.where(finite, loss, 0.0), finite.astype(jnp.float32))
        if micro_batches > 1:
            norm = metrics["gradient_norm"].total
            metrics["gradient"] = _noise(squares, norm, finite, batch, micro_batches)
        return state, metrics

    return step


def optimizer_step(
    state: TrainState,
    gradient: Params,
    optimizer: optax.GradientTransformation,
    *,
    held: Params,
    finite: Array | bool = True,
    learns: Array | bool = True,
    rounding_key: Array | None,
) -> tuple[TrainState, Metrics]:
    """The state after an optimizer's step with this gradient.

    Args:
        state: before it.
        gradient: f32, of the parameters that are optimised.
        optimizer: an optax transformation.
        held: the parameters that are not, as they will be.
        finite: [] bool, False skips the step, and counts it as skipped, as a gradient does that is
            not finite.
        learns: [] bool, False leaves parameters and optimizer as they are and counts nothing.
        rounding_key: of bfloat16 parameters; None rounds to nearest.

    Returns:
        The state, and the metrics `gradient_norm` and `updates_skipped`; `learning_rate`, of the
        updates that were made, where the optimizer knows it.
    """
    optimised, _ = split_held(state.params)
    norm = optax.tree.norm(gradient)
    finite = finite & jnp.isfinite(norm)
    changes, optimizer_state = optimizer.update(gradient, state.optimizer_state, optimised)
    key = None if rounding_key is None else jax.random.fold_in(rounding_key, state.updates)
    params = combine(apply_updates(optimised, changes, key=key), held)

    def keep(new: Array, old: Array) -> Array:
        return jnp.where(finite & learns, new, old)

    skipped = 1 - finite.astype(jnp.int32)
    rate = optimizer.rate(state.optimizer_state) if isinstance(optimizer, Optimizer) else None
    state = state.replace(
        params=jax.tree.map(keep, params, state.params),
        optimizer_state=jax.tree.map(keep, optimizer_state, state.optimizer_state),
        updates=state.updates + 1,
        skipped=state.skipped + skipped,
        skipped_in_a_row=(state.skipped_in_a_row + 1) * skipped,
    )
    metrics: Metrics = {
        "gradient_norm": SumCount(jnp.where(finite, norm, 0.0), finite.astype(jnp.float32)),
        "updates_skipped": SumCount(skipped.astype(jnp.float32), jnp.ones(())),
    }
    if isinstance(optimizer, Optimizer):
        made = jnp.asarray(finite & learns, jnp.float32)
        metrics["learning_rate"] = SumCount(rate * made, made)
    return state, metrics


def _noise(
    squares: Array, norm: Array, finite: Array, batch: Batch, micro_batches: int
) -> GradientNoise:
    """The gradient's noise, in sequences of the batch: a packed row, or a side of a pair, is one.

    It is the noise of sequences whose weights and advantages are given: where these were made by
    comparing sequences of several parts, what the comparison adds is not seen.
    """
    axes = batch["mask"].shape[:-1] if "mask" in batch else jax.tree.leaves(batch)[0].shape[:1]
    sequences = math.prod(axes) / micro_batches
    noise = gradient_noise(squares, norm**2, micro_batches=micro_batches, sequences=sequences)
    finite &= jnp.isfinite(squares)
    return jax.tree.map(lambda x: jnp.where(finite, x, 0.0), noise)


def jit_train_step(
    network: Network,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    micro_batches: int,
    prepare: PrepareFn | None = None,
    rounding_key: Array | None = None,
    carried: Carried = Carried(),  # noqa: B008 - immutable
    beside: Mapping[str, Params] | None = None,
) -> Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]:
    """`make_train_step` for this network on this mesh; the state is donated, `frozen` is not."""
    step = make_train_step(
        loss_fn,
        optimizer,
        micro_batches=micro_batches,
        prepare=prepare,
        router_bias_rate=network.config.router_bias_rate,
        rounding_key=rounding_key,
    )
    return jit_update(step, network, optimizer, mesh, carried, beside)


def jit_update(
    step: Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]],
    network: Network,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    carried: Carried = Carried(),  # noqa: B008 - immutable
    beside: Mapping[str, Params] | None = None,
) -> Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]:
    """Jits an update of this network's TrainState; the state is donated, `frozen` is not.

    The models `beside` the policy, by role, enter it with `frozen` (update/beside.py).
    """
    shardings = state_shardings(network, optimizer, mesh, carried)
    _, frozen = split_frozen(parameter_shardings(network, mesh))
    if beside:
        frozen = {**frozen, BESIDE: shardings_of(dict(beside))}
    program = jax.jit(
        step,
        in_shardings=(shardings, frozen, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
    return UpdateBeside(program, beside) if beside else program


def _balanced(held: Params, counts: Array, rate: float) -> Params:
    """Moves the biases [L, E] of the routers by how many tokens [L, E] their experts were sent."""
    leaves = flatten(held)
    for path, leaf in leaves.items():
        if path[-1] == ROUTER_BIAS:
            leaves[path] = leaf + bias_update(counts, rate=rate)
    return unflatten(leaves)
