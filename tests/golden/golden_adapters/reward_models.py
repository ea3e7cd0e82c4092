"""Slug reward-models: losses of reward models on pairs of scores."""

import jax
import jax.numpy as jnp
from jax import Array

from golden_adapters.common import floats
from rljax.objectives.reward_models import bradley_terry
from rljax.objectives.reward_models.goal_conditioned import goal_conditioned, goal_similarities


def reward_models(case: dict) -> dict[str, Array]:
    """Bradley-Terry with a margin and with centred scores; "logexp" is the same loss."""
    if "chosen_reward" not in case["inputs"]:
        return _goal_conditioned(case)
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


def _goal_conditioned(case: dict) -> dict[str, Array]:
    """Their rows end with the answer; ours begin with the last token of the prompt."""
    args, inputs = case["args"], case["inputs"]
    names = ("source_dissimilar", "goal_dissimilar")
    draws = [floats(case, "uniforms_similar")]
    draws += [floats(case, f"uniforms_{name}")[:, None] for name in names]
    sides = ("chosen", "rejected")
    lengths = jnp.stack([jnp.asarray(inputs[f"{side}_num_actions"]) for side in sides], axis=1)
    hidden = tuple(floats(case, f"{side}_hidden") for side in sides)

    def loss_fn(hidden: tuple[Array, Array]) -> Array:
        states = jnp.stack(hidden, axis=1)
        slots = states.shape[2] - 1 - lengths[..., None] + jnp.arange(states.shape[2])
        slots = jnp.minimum(slots, states.shape[2] - 1)
        found = goal_similarities(
            jnp.take_along_axis(states, slots[..., None], axis=2),
            lengths,
            jnp.concatenate(draws, axis=1),
            source_percentile=args["source_state_percentile"],
            goal_percentile=args["goal_state_percentile"],
            goal_average=args["strategy"] == "cosine_avg",
        )
        means = [jnp.full_like(each, each.mean()) for each in found]
        return goal_conditioned(*found, *means, goal_weight=args["beta"])[0].mean()

    loss, (chosen, rejected) = jax.value_and_grad(loss_fn)(hidden)
    return {"loss": loss, "grad_chosen_hidden": chosen, "grad_rejected_hidden": rejected}
