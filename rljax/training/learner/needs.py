"""What a stage's objective needs besides its samples."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import Stage
from rljax.objectives.advantages import BASELINE_UPDATES
from rljax.objectives.advantages.reweighted import empty_history
from rljax.objectives.hypervolume import empty_front
from rljax.objectives.multipliers import first_multipliers
from rljax.objectives.objective_weights import first_objective_weights
from rljax.objectives.parts import inputs_of


def with_schedule(
    arrays: dict[str, Array], done: Array, steps: int, noise_key: Array, first_step: int
) -> dict[str, Array]:
    """The arrays of a step with where it stands in its stage, and its noise."""
    key = jax.random.fold_in(noise_key, first_step + done)
    return arrays | {
        "step": jnp.int32(done),
        "progress": jnp.float32(done) / steps,
        "noise": jax.random.uniform(key, arrays["mask"].shape),
    }


def running_statistics(stage: Stage) -> dict[str, Array]:
    """The numbers that a stage carries from step to step, as they begin."""
    objective = stage.objective
    first: dict[str, Array] = {}
    if objective.choices["advantage"] in BASELINE_UPDATES:
        first["baseline"] = jnp.float32(0)
    if objective.choices["advantage"] == "mixed_components":
        count = len(objective.values["thresholds"])
        first |= {"multipliers": first_multipliers(count), "multiplier_momentum": jnp.zeros(count)}
    if objective.choices["advantage"] == "reweighted_components":
        sizes = (objective.values[name] for name in ("component_count", "loss_window"))
        first["loss_history"] = empty_history(*sizes)
    if objective.choices["reward_shaping"] == "gradient_weighted":
        count = objective.values["component_count"]
        first["objective_weights"] = first_objective_weights(count)
    if objective.choices["advantage"] == "role_baseline":
        nothing = jnp.zeros(objective.values["role_count"])
        first |= {"role_baselines": nothing, "role_weights": nothing}
    if objective.choices["reward_shaping"] == "hypervolume":
        sizes = (objective.values[name] for name in ("component_count", "front_points"))
        first |= {"front": empty_front(*sizes), "meta_reward": jnp.float32(1)}
    if objective.choices["kl_controller"] != "fixed" and objective.kl is not None:
        first["kl_coefficient"] = jnp.asarray(objective.values["kl_weight"], jnp.float32)
    if objective.choices["sampling_temperature"] != "constant":
        first["temperature_slopes"] = jnp.zeros(4)
    return first


def stores_old(stage: Stage) -> bool:
    """Whether the samples are scored by the trainer before the first update.

    With one update the policy that sampled is the policy that learns: the loss has its
    log-probabilities anyway, and only parts that compare samples beforehand need them earlier.
    """
    objective = stage.objective
    in_loss = {"ratio", "surrogate", "kl_controller"}
    read = {
        name
        for choice, part in objective.functions.items()
        if choice not in in_loss
        for name in inputs_of(part)
    }
    early = {"old_logprobs", "old_entropy", "current_logprobs", "current_entropy"}
    controlled = objective.choices["kl_controller"] != "fixed"
    placed = controlled or objective.choices["kl_placement"] == "reward"
    in_reward = placed and objective.kl is not None
    # Without a ratio, as estimates from masks allow, later updates do not look back.
    looks_back = objective.choices["ratio"] != "none" or "old_draw_logprobs" in objective.inputs
    moved = stage.batch.updates_per_step > 1 and looks_back
    return moved or in_reward or not read.isdisjoint(early)


def needs_scores(stage: Stage) -> bool:
    """Whether the samples are scored by the trainer before the first update."""
    second = {"old_collision", "proxy_logprobs"} & stage.objective.inputs
    return stores_old(stage) or bool(second)


def reads_values(stage: Stage) -> bool:
    """Whether anything reads what the critic said before the step.

    A critic of prompts alone, without a clip, learns from its targets and nothing else: then a pass
    over all samples is saved.
    """
    objective = stage.objective
    readers = (part for name, part in objective.functions.items() if name != "critic")
    clipped = objective.values.get("value_clip") is not None
    known = {"values", "component_values"}
    return clipped or any(known & set(inputs_of(part)) for part in readers)
