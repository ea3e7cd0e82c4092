"""The weights of several rewards, from a backward pass of each on the samples of a step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.models.lora import combine, split_held
from rljax.models.network import Network, Params
from rljax.objectives.objective_weights import influences, move_objective_weights
from rljax.objectives.parts import apply
from rljax.training.learner.loss import PolicyLoss
from rljax.training.update.train_step import loss_and_gradient

WEIGHTS = "objective_weights"
# Terms of the loss that belong to no reward.
_OTHER_TERMS = ("kl_weight", "entropy_weight", "likelihood_weight")


class Weighed(NamedTuple):
    """What the gradients of a step say of its rewards, [C] f32 each."""

    weights: Array  # new ones
    influences: Array


def weighs(stage: Stage) -> bool:
    """Whether a stage's rewards have weights that follow their gradients."""
    return stage.objective.choices["reward_shaping"] == "gradient_weighted"


def reward_loss(network: Network, stage: Stage) -> PolicyLoss:
    """The loss of a stage without the terms that belong to no reward: KL, entropy, likelihood.

    Raises:
        ValueError: for layers that the network does not have.
    """
    layers = tuple(stage.objective.values["weight_layers"])
    fits = len(layers) == 2 and 0 <= layers[0] <= layers[1] < network.config.layers
    if layers and not fits:
        raise ValueError(
            f"weight_layers={layers!r} must be empty or (first, last) of the layers 0 to "
            f"{network.config.layers - 1} (config.{stage.name}.objective.weight_layers)."
        )
    values = stage.objective.values
    without = {name: 0.0 for name in _OTHER_TERMS if name in values}
    objective = dataclasses.replace(stage.objective, values={**values, **without})
    whole = {"sequences_per_update": stage.batch.sequences_per_step, "epochs_per_step": 1}
    batch = dataclasses.replace(stage.batch, **whole)
    return PolicyLoss(network, dataclasses.replace(stage, objective=objective, batch=batch))


def make_weighing(
    loss: PolicyLoss,
    compare: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    whole_batch: Callable[[Mapping[str, Any], Mapping[str, Array]], dict[str, Array]],
) -> Callable[[Params, Params, Mapping[str, Any], Mapping[str, Array], Array], Weighed]:
    """Builds weigh(trained parameters, frozen ones, rows, arrays, learning rate) -> `Weighed`.

    The gradients of all C rewards are held at once, each as large as the parameters that are
    optimised in the layers that are asked.

    Args:
        loss: of `reward_loss`.
        compare: the arrays of a step, whose `objective_weights` are those of one reward alone, to
            those that updates read.
        whole_batch: rows and such arrays to the batch of an update.
    """
    objective, batch = loss.objective, loss.stage.batch
    parts = batch.sequences_per_step // batch.sequences_per_micro_batch

    def weigh(
        trained: Params,
        frozen: Params,
        rows: Mapping[str, Any],
        arrays: Mapping[str, Array],
        learning_rate: Array,
    ) -> Weighed:
        optimised, held = split_held(trained)

        def slope(alone: Array) -> list[Array]:
            whole = whole_batch(rows, compare({**arrays, WEIGHTS: alone}))
            whole = loss.prepare(combine(trained, frozen), whole)
            found = loss_and_gradient(
                lambda params, part: loss.loss_fn(combine(params, held, frozen), part),
                optimised,
                whole,
                parts,
            )
            return _asked(found[2], tuple(objective.values["weight_layers"]))

        weights = arrays[WEIGHTS]
        slopes = [slope(alone) for alone in jnp.eye(len(weights), dtype=weights.dtype)]
        gram = jnp.array([[_product(first, second) for second in slopes] for first in slopes])
        found = influences(gram)
        known = {WEIGHTS: weights, "gradient_influences": found, "learning_rate": learning_rate}
        moved = apply(objective.bind(move_objective_weights), known)
        # Gradients that are not finite say nothing.
        return Weighed(jnp.where(jnp.isfinite(gram).all(), moved, weights), found)

    return weigh


def _asked(gradient: Params, layers: tuple[int, ...]) -> list[Array]:
    """The leaves of a gradient that count: of all parameters, or of the layers first to last."""
    if not layers:
        return jax.tree.leaves(gradient)
    first, last = layers
    return [leaf[first : last + 1] for leaf in jax.tree.leaves(gradient["blocks"])]


def _product(first: list[Array], second: list[Array]) -> Array:
    return sum((jnp.vdot(a, b) for a, b in zip(first, second, strict=True)), start=jnp.zeros(()))
