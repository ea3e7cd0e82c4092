"""What the load of experts adds to a training stage's loss and metrics."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.config import ModelConfig
from rljax.models.moe import Routing
from rljax.objectives.balance import auxiliary_loss
from rljax.objectives.metrics import SumCount
from rljax.training.update.train_step import EXPERT_COUNTS, Metrics


def balance_loss(
    config: ModelConfig, routing: Routing | None, *, micro_batches: int
) -> tuple[Array, Metrics]:
    """The load-balancing loss of one micro-batch's share of a batch, and metrics of its load.

    The loss is a product of two means over tokens, so it does not add up as those of tokens do:
    each part contributes its own loss divided by their number, and the batch's loss is the mean of
    its parts' losses. That is the loss of the whole batch if there is one part, or if the experts
    have the same load in all parts and these the same number of tokens.

    Tokens count as often as they are routed. Group rows (update/rows.py) route a prompt once,
    separate rows once for each of its completions: the two layouts give prompts another weight in
    this loss and in the counts that move the routers' biases, though not in any other loss.

    Args:
        config: the model's; `router_aux_weight` is the weight of the loss.
        routing: of all layers, counts [L, E]; None for a dense model.
        micro_batches: number of parts that the batch is split into.

    Returns:
        [] f32, the mean over layers, and the metrics; 0 and none for a dense model. Metrics:
        balance_loss: mean over layers and parts, without the weight; 1 where the load is even.
        expert_counts: total [L, E], the pairs sent to each expert, which add up exactly. The train
            step takes it out, reports its MaxVio and moves the routers' biases by it.
    """
    if routing is None:
        return jnp.zeros(()), {}
    losses = auxiliary_loss(*routing, alpha=1.0)
    constant, counts = jax.lax.stop_gradient((losses, routing.counts))
    metrics = {
        "balance_loss": SumCount(constant.sum(), jnp.float32(len(losses))),
        EXPERT_COUNTS: SumCount(counts, jnp.ones(())),
    }
    return config.router_aux_weight / micro_batches * losses.mean(), metrics
