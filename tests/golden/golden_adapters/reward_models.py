"""Slug reward-models: losses of reward models on pairs of scores."""

import jax
import jax.numpy as jnp
from jax import Array

from golden_adapters.common import NotBuilt, floats
from rljax.objectives.reward_models import bradley_terry


def reward_models(case: dict) -> dict[str, Array]:
    """Bradley-Terry with a margin and with centred scores; "logexp" is the same loss."""
    if "chosen_reward" not in case["inputs"]:
        raise NotBuilt("goal-conditioned reward models")
    scores = floats(case, "chosen_reward"), floats(case, "rejected_reward")
    margin = case["inputs"].get("margin")
    margin = 0.0 if margin is None else jnp.asarray(margin, float)
    center = case["args"].get("center_rewards_coefficient") or 0.0

    def loss_fn(scores: tuple[Array, Array]) -> tuple[Array, dict]:
        loss, metrics = bradley_terry(*scores, score_margin=margin, center_weight=center)
        return loss.mean(), metrics

    (loss, metrics), (chosen, rejected) = jax.value_and_grad(loss_fn, has_aux=True)(scores)
    return {
        "loss": loss,
        "grad_chosen": chosen,
        "grad_rejected": rejected,
        "accuracy": metrics["reward_accuracy"].mean(),
        "mean_margin": metrics["reward_margin"].mean(),
    }
