"""From scored samples to what the updates of a step learn from: advantages, masks, corrections."""

import functools
from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages import BASELINE_UPDATES
from rljax.objectives.advantages.groups import share_without_signal
from rljax.objectives.advantages.signed import keep_sign
from rljax.objectives.corrections import corrected
from rljax.objectives.kl import k1
from rljax.objectives.kl_controllers import KL_UNITS
from rljax.objectives.metrics import SumCount
from rljax.objectives.parts import apply
from rljax.objectives.policy_gradient import kl_in_reward
from rljax.objectives.selections import FULL_DENOMINATOR
from rljax.objectives.switching import switch_to_demonstrations
from rljax.objectives.whitening import whiten
from rljax.registry import Objective

Arrays = dict[str, Array]
Metrics = dict[str, SumCount]


def make_experience(
    objective: Objective, arrays: Mapping[str, Array]
) -> tuple[Arrays, Arrays, Metrics]:
    """Compares the samples of a step with each other.

    The order matters: scores are shaped, compared over all samples that were scored, and only then
    is the mask narrowed to what is trained on.

    Args:
        objective: of the stage; its values may be traced.
        arrays: of the whole step by name (objectives/arrays.py): `scores`, `mask`, `group_ids`,
            `correct`, `finished`, `behavior_logprobs`, and whatever the parts name. With rows that
            are written over several steps (T-PPO, arXiv:2506.15050) also `trained_tokens` [N, T]
            bool, what is new of the mask, and `complete` [N] bool, False where a row goes on.

    Returns:
        The arrays with `advantages`, `correction`, and a `mask` of the tokens that are trained on;
        the running statistics that have moved, by name; and metrics.
    """
    arrays = dict(arrays)
    if "demonstration" in arrays and "old_logprobs" in arrays:  # no sampler reported these
        shown = arrays["demonstration"][:, None]
        reported = jnp.where(shown, arrays["old_logprobs"], arrays["behavior_logprobs"])
        arrays["behavior_logprobs"] = reported
    sampled = arrays["mask"]
    if "demonstration" in arrays and objective.choices["demonstrations"] == "switch":
        sampled &= ~arrays["demonstration"][:, None]
    compared = arrays | {"mask": sampled}
    compared |= _shaped(objective, compared)
    compared["token_rewards"] = at_last_token(compared["scores"], sampled)
    metrics = {
        "groups_without_signal": share_without_signal(
            compared["token_rewards"], sampled, compared["group_ids"]
        )
    }
    compared["token_rewards"] = _without_kl(objective, compared)
    compared["segment_ids"] = apply(objective.part("segmentation"), compared)
    advantages = _advantages(objective, compared)
    compared["advantages"] = keep_sign(advantages, objective.values["advantage_sign"])
    if objective.choices["value_target"] != "none":
        targets = apply(objective.part("value_target"), compared)
        compared |= dict(zip(("returns", "value_mask"), targets, strict=True))
    moved = _moved_baseline(objective, compared) | _moved_kl(objective, compared)
    if "trained_tokens" in arrays:
        compared["mask"] = sampled & arrays["trained_tokens"]
    narrowed, more = _narrowed(objective, compared)
    trained = compared | narrowed
    if "kl_coefficient" in arrays:
        trained["kl_weights"] = jnp.full(len(arrays["scores"]), arrays["kl_coefficient"])
    if objective.choices["demonstrations"] == "switch":
        trained["mask"] = switch_to_demonstrations(
            arrays["correct"],
            trained["mask"] | arrays["mask"] & arrays["demonstration"][:, None],
            arrays["group_ids"],
            arrays["demonstration"],
            switch_threshold=objective.values["switch_threshold"],
        )
    return trained, moved, metrics | more


def at_last_token(values: Array, mask: Array) -> Array:
    """Outcome rewards [N] -> per-token rewards [N, T] f32, on the last True slot of each row."""
    slots = jnp.arange(mask.shape[1])
    last = jnp.where(mask, slots, -1).max(axis=1)
    return jnp.where(slots == last[:, None], values[:, None], 0.0).astype(jnp.float32)


def _shaped(objective: Objective, arrays: Arrays) -> Arrays:
    """Scores, and with `complete` what counts as an end for a critic: a row at its limit too.

    A row that goes on was not judged yet: it has no score, whatever the shaping says.
    """
    scores = apply(objective.part("reward_shaping"), arrays)
    if "complete" not in arrays:
        return {"scores": scores}
    complete = arrays["complete"]
    return {"scores": jnp.where(complete, scores, 0.0), "finished": complete}


def _advantages(objective: Objective, arrays: Arrays) -> Array:
    """Of all tokens; with `trained_tokens` 0 elsewhere, and whitened over these alone."""
    part = objective.part("advantage")
    if "trained_tokens" not in arrays:
        return apply(part, arrays)
    trained = arrays["mask"] & arrays["trained_tokens"]
    advantages = apply(functools.partial(part, whiten_advantages=False), arrays)
    if not objective.values["whiten_advantages"]:
        return jnp.where(trained, advantages, 0.0)
    return whiten(advantages, trained, epsilon=objective.values["whiten_epsilon"])


def _without_kl(objective: Objective, arrays: Arrays) -> Array:
    if objective.choices["kl_placement"] != "reward" or objective.kl is None:
        return arrays["token_rewards"]
    return kl_in_reward(
        arrays["token_rewards"],
        arrays["old_logprobs"],
        arrays["ref_logprobs"],
        arrays["mask"],
        kl_weight=arrays.get("kl_coefficient", objective.values["kl_weight"]),
        kl=objective.kl,
    )


def _moved_baseline(objective: Objective, arrays: Arrays) -> Arrays:
    update = BASELINE_UPDATES.get(objective.choices["advantage"])
    return {} if update is None else {"baseline": apply(objective.bind(update), arrays)}


def _moved_kl(objective: Objective, arrays: Arrays) -> Arrays:
    """The weight of the KL for the next step, where it follows the KL that was measured."""
    if "kl_coefficient" not in arrays:
        return {}
    mask = arrays["mask"]
    kl = k1(arrays["old_logprobs"], arrays["ref_logprobs"], mask)
    measured = KL_UNITS[objective.values["kl_unit"]](kl, mask).mean()
    samples = mask.any(axis=1).sum()
    control = objective.part("kl_controller")
    return {"kl_coefficient": control(arrays["kl_coefficient"], measured, samples)}


def _narrowed(objective: Objective, arrays: Arrays) -> tuple[Arrays, Metrics]:
    """The mask that is left for the loss, and the factors of its tokens."""
    kept_groups = apply(objective.part("group_filter"), arrays)
    weights, _, metrics = corrected(
        arrays, correction=objective.part("correction"), rejection=objective.part("rejection")
    )
    selected = apply(objective.part("selection"), arrays)
    mask = selected & kept_groups[:, None]
    if objective.choices["selection"] in FULL_DENOMINATOR:
        # What is left out still counts as a token where losses are averaged.
        weights, mask = weights * selected, arrays["mask"] & kept_groups[:, None]
    share = SumCount(mask.sum().astype(float), arrays["mask"].sum().astype(float))
    return {"mask": mask, "correction": weights}, metrics | {"trained_token_share": share}
