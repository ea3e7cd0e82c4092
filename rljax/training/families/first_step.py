"""The start of LoRA-SB: its bases come from the first gradient of full fine-tuning."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.lora import (
    adapters_are_zero,
    combine,
    flatten,
    projections,
    silver_bullet,
    unflatten,
)
from rljax.models.network import Network, Params
from rljax.parallel.rules import put_rows, replicated
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, LossFn, Metrics, PrepareFn, loss_and_gradient


def needs_first_step(network: Network, params: Params) -> bool:
    """Whether the adapters of a state are those of LoRA-SB and have not been made yet."""
    lora = network.config.lora
    return lora is not None and lora.kind == "lora_sb" and adapters_are_zero(params)


def take_first_step(
    context: Context,
    state: TrainState,
    rows: Rows,
    *,
    loss_fn: LossFn,
    prepare: PrepareFn,
    learning_rate: Array,
    micro_batches: int,
) -> TrainState:
    """Replaces adapters that are zero by those of LoRA-SB (arXiv:2411.19557, section 3).

    The gradient is that of the batch of the stage's first update, as the frozen model would make
    it.

    Args:
        context: of the stage, with the frozen base.
        state: fresh.
        rows: the batch.
        loss_fn: see `LossFn`.
        prepare: see `PrepareFn`.
        learning_rate: [] f32, of the first update.
        micro_batches: parts of the batch.
    """
    placed = put_rows(rows, context.mesh)
    placed = jax.jit(prepare)(context.full(state.params), placed)
    adapters = lora_sb_init(
        context.network,
        loss_fn,
        context.full(state.params),
        placed,
        step_size=learning_rate,
        micro_batches=micro_batches,
    )
    shardings = flatten(context.network.shardings(context.mesh))
    leaves = flatten(state.params)
    for path, leaf in flatten(adapters).items():
        leaves[path] = jax.device_put(leaf.astype(leaves[path].dtype), shardings[path])
    return state.replace(params=unflatten(leaves))


def lora_sb_init(
    network: Network,
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    step_size: Array | float,
    micro_batches: int = 1,
) -> Params:
    """The leaves of all adapters, from the full gradient of a batch.

    One kind of matrix after the other, so that no more than one gradient of it exists at a time; of
    that, one layer after the other is gathered and factorised.

    Args:
        network: with adapters of kind "lora_sb".
        loss_fn: see `LossFn`.
        params: all of them, the adapters being zero.
        batch: rows.
        step_size: learning rate of the first update.
        micro_batches: parts of the batch.

    Raises:
        ValueError: if any layer's gradient of a matrix is zero or not finite: it gives no bases.
    """
    lora, leaves, made = network.config.lora, flatten(params), {}
    for path in projections(network):
        kernel = (*path, "kernel")
        others = unflatten({other: leaf for other, leaf in leaves.items() if other != kernel})

        def gradient(matrix: Array, others: Params, batch: Batch, kernel=kernel) -> Array:
            def loss(matrix: Array, batch: Batch) -> tuple[Array, Metrics]:
                return loss_fn(combine(others, unflatten({kernel: matrix})), batch)

            return loss_and_gradient(loss, matrix, batch, micro_batches)[2]

        # A quantised matrix has no gradient: here, and only here, it is whole.
        matrix = leaves[kernel].astype(leaves[kernel].dtype)
        found = jax.jit(gradient)(matrix, others, batch)
        _check_gradient(found, path)
        inputs = leaves[(*path, "lora_a")].ndim - 2
        factors = [
            _factorise(_gathered(layer), inputs, lora.rank, step_size=step_size, scale=lora.scale)
            for layer in found
        ]
        for name in factors[0]:
            made[(*path, name)] = jnp.stack([factor[name] for factor in factors])
    return unflatten(made)


def _check_gradient(gradient: Array, path: tuple[str, ...]) -> None:
    """Raises ValueError unless the gradient [L, *in, *out] is finite, and non-zero in each layer.

    Training would be confined for good to bases that say nothing, or go on with none.
    """
    largest = jnp.abs(gradient).max(axis=tuple(range(1, gradient.ndim)))
    if jnp.isfinite(largest).all() and (largest > 0).all():
        return
    wrong = "is zero" if jnp.isfinite(largest).all() else "is not finite"
    raise ValueError(
        f"LoRA-SB takes its bases from the gradient of the first batch, and that of "
        f"{'.'.join(path)} {wrong}: make that batch tell something, e.g. by a stage of "
        "demonstrations before it, more prompts_per_step or another config.seed, or take "
        "kind='lora' (config.model.lora.kind)."
    )


_factorise = jax.jit(silver_bullet, static_argnums=(1, 2))


def _gathered(matrix: Array) -> Array:
    """One layer's gradient, whole on every device."""
    mesh = getattr(matrix.sharding, "mesh", None)
    return matrix if mesh is None else jax.device_put(matrix, replicated(mesh))
