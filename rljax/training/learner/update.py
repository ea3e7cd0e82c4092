"""One optimizer update of the policy, and of its critic where it has one."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rljax.models.lora import combine
from rljax.models.network import Params
from rljax.training.learner.critic import Critic
from rljax.training.learner.loss import PolicyLoss
from rljax.training.learner.multiplied import Update, with_multipliers
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Batch, Metrics, make_train_step


def make_policy_update(
    loss: PolicyLoss,
    optimizer: optax.GradientTransformation,
    critic: Critic | None,
    *,
    rounding_key: Array | None = None,
) -> Update:
    """Builds update(state, frozen, batch) -> (state, metrics).

    The critic learns from the same batch. In the first `warmup_updates` of its settings it learns
    alone: the policy stays as it is (value pre-training, arXiv:2503.01491).
    """
    policy_step = make_train_step(
        loss.loss_fn,
        optimizer,
        micro_batches=loss.stage.batch.micro_batches,
        prepare=loss.prepare,
        router_bias_rate=loss.network.config.router_bias_rate,
        rounding_key=rounding_key,
    )
    if critic is None:
        return policy_step

    def update(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
        params = combine(state.params, frozen)
        critic_state, critic_metrics = critic.step(state.carried["critic"], params, batch)
        moved, metrics = policy_step(state, frozen, batch)
        waits = state.updates < critic.settings["warmup_updates"]

        def stay(old: Array, new: Array) -> Array:
            return jnp.where(waits, old, new)

        moved = moved.replace(
            params=jax.tree.map(stay, state.params, moved.params),
            optimizer_state=jax.tree.map(stay, state.optimizer_state, moved.optimizer_state),
            carried={**moved.carried, "critic": critic_state},
        )
        if "learning_rate" in metrics:  # of an optimizer that knows its own
            made = jnp.where(waits, 0.0, 1.0)  # updates that the policy does not make have none
            metrics["learning_rate"] = jax.tree.map(lambda x: x * made, metrics["learning_rate"])
        return moved, metrics | critic_metrics

    return with_multipliers(update, loss.stage)
