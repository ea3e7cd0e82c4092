"""From scored samples to what the updates of a step learn from: advantages, masks, corrections."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages import BASELINE_UPDATES, update_role_baselines
from rljax.objectives.advantages.groups import share_without_signal
from rljax.objectives.advantages.reweighted import next_loss_history
from rljax.objectives.advantages.signed import keep_sign
from rljax.objectives.corrections import corrected
from rljax.objectives.credit.outcomes import place_outcomes, place_turns
from rljax.objectives.hypervolume import update_front
from rljax.objectives.kl import k1
from rljax.objectives.kl_controllers import KL_UNITS
from rljax.objectives.metrics import SumCount
from rljax.objectives.multipliers import values_reached
from rljax.objectives.parts import apply
from rljax.objectives.policy_gradient import kl_in_reward
from rljax.objectives.selections import FULL_DENOMINATOR
from rljax.objectives.switching import switched_rows
from rljax.objectives.whitening import whiten
from rljax.registry import Objective

Arrays = dict[str, Array]
Metrics = dict[str, SumCount]


class Compared(NamedTuple):
    """What the samples of a step say about each other."""

    trained: Arrays  # by name, with `advantages`, `correction` and the `mask` that is trained on
    running: Arrays  # the running statistics that have a new value
    metrics: Metrics


def compare_samples(objective: Objective, arrays: Mapping[str, Array]) -> Compared:
    """Compares the samples of a step with each other.

    The order matters: scores are shaped, groups that the filter drops are taken out of all that
    follows, whitening included, the rest is compared, and only then is the mask narrowed to what is
    trained on.

    Args:
        objective: of the stage; its values may be traced.
        arrays: of the whole step by name (objectives/arrays.py): `scores`, `mask`, `group_ids`,
            `correct`, `finished`, `behavior_logprobs`, and whatever the parts name. With rows that
            are written over several steps (T-PPO, arXiv:2506.15050) also `trained_tokens` [N, T]
            bool, what is new of the mask, and `complete` [N] bool, False where a row goes on. With
            episodes `turn_rewards` [N, T] f32 may say which turn earned what. With a guide policy
            `guide_tokens` [N, T] bool are what it wrote, and `guide_values` [N] bool says whether
            the critic learns what it makes of a state.
    """
    arrays = dict(arrays)
    if "guide_tokens" in arrays:
        arrays["trained_tokens"] = arrays["mask"] & ~arrays["guide_tokens"]
    shown_alone = objective.choices["demonstrations"] != "guided"
    if "demonstration" in arrays and "old_logprobs" in arrays and shown_alone:
        # No sampler reported these.
        shown = arrays["demonstration"][:, None]
        reported = jnp.where(shown, arrays["old_logprobs"], arrays["behavior_logprobs"])
        arrays["behavior_logprobs"] = reported
    sampled = sampled_mask(arrays)
    known = arrays | {"mask": sampled if _switches(objective) else arrays["mask"]}
    known |= _shaped(objective, known)
    rewards = _token_rewards(known)
    metrics = {}
    if "complete" not in arrays:  # else a row is compared with no other
        no_signal = share_without_signal(rewards, sampled, known["group_ids"])
        metrics["groups_without_signal"] = no_signal
    kept = kept_groups(objective, arrays)
    known |= {"mask": known["mask"] & kept[:, None], "token_rewards": rewards}
    known["token_rewards"] = _without_kl(objective, known)
    known["segment_ids"] = apply(objective.part("segmentation"), known)
    known |= _by_component(objective, known)
    advantages = _advantages(objective, known)
    known["advantages"] = keep_sign(advantages, objective.values["advantage_sign"])
    if objective.values.get("meta_applied_to") == "advantages":
        known["advantages"] = known["advantages"] * known["meta_reward"]
    if objective.choices["teacher"] != "none":
        known["advantages"] = apply(objective.part("teacher"), known)
    if objective.choices["value_target"] != "none":
        targets = apply(objective.part("value_target"), known)
        several = objective.choices["value_target"] == "component_returns"
        names = ("component_returns" if several else "returns", "value_mask")
        known |= dict(zip(names, targets, strict=True))
        if "guide_tokens" in arrays:
            known["value_mask"] &= _valued(known)
    running = _running(objective, known | {"mask": _of_policy(known) & sampled})
    if "trained_tokens" in arrays:
        known["mask"] &= arrays["trained_tokens"]
    narrowed, more = _narrowed(objective, known, sampled)
    trained = known | narrowed
    if "kl_coefficient" in arrays:
        trained["kl_weights"] = jnp.full(len(arrays["scores"]), arrays["kl_coefficient"])
    if _switches(objective):
        rows = switched_rows(
            arrays["correct"],
            arrays["mask"],
            arrays["group_ids"],
            arrays["demonstration"],
            switch_threshold=objective.values["switch_threshold"],
        )
        trained["sampled"] = trained["mask"]
        shown = arrays["mask"] & arrays["demonstration"][:, None]
        trained["mask"] = (trained["mask"] | shown) & rows[:, None]
    return Compared(trained, running, metrics | more)


def _of_policy(arrays: Arrays) -> Array:
    """The mask [N, T] without the tokens of a guide policy."""
    return arrays["mask"] & ~arrays["guide_tokens"] if "guide_tokens" in arrays else arrays["mask"]


def _valued(arrays: Arrays) -> Array:
    """Where a critic may learn, [N, T] bool: where what follows is of one policy alone.

    Behind the prefix of a guide the policy goes on; behind one of the policy it is the guide.
    """
    guide = arrays["guide_tokens"]
    return arrays["mask"] & jnp.where(arrays["guide_values"][:, None], guide, ~guide)


def _switches(objective: Objective) -> bool:
    return objective.choices["demonstrations"] == "switch"


def sampled_mask(arrays: Mapping[str, Array]) -> Array:
    """The mask [N, T] without demonstrations, which nobody sampled."""
    if "demonstration" not in arrays:
        return arrays["mask"]
    return arrays["mask"] & ~arrays["demonstration"][:, None]


def kept_groups(objective: Objective, arrays: Mapping[str, Array]) -> Array:
    """Which rows belong to groups that the filter keeps, judged by their samples, [N] bool."""
    sampled = dict(arrays) | {"mask": sampled_mask(arrays)}
    if objective.choices["group_filter"] == "none":
        return jnp.ones(len(arrays["group_ids"]), bool)
    sampled["scores"] = apply(objective.part("reward_shaping"), sampled)
    keep = apply(objective.part("group_filter"), sampled) & sampled["mask"].any(axis=1)
    rows = len(keep)
    _, segment = jnp.unique(sampled["group_ids"], return_inverse=True, size=rows)
    segment = segment.reshape(rows)
    return jax.ops.segment_max(keep.astype(jnp.int32), segment, rows)[segment] > 0


def _shaped(objective: Objective, arrays: Arrays) -> Arrays:
    """Scores, and with `complete` what counts as an end for a critic: a row at its limit too.

    A row that goes on was not judged yet: it has no score, whatever the shaping says.
    """
    scores = apply(objective.part("reward_shaping"), arrays)
    if "complete" not in arrays:
        return {"scores": scores}
    complete = arrays["complete"]
    return {"scores": jnp.where(complete, scores, 0.0), "finished": complete}


def score_advantages(objective: Objective, arrays: Mapping[str, Array]) -> Array:
    """The advantages [N, T] of samples that have scores and nothing else yet.

    Args:
        objective: whose parts read no more than that (config/curriculum.py).
        arrays: of the samples, as `compare_samples` reads them.
    """
    known = dict(arrays) | _shaped(objective, arrays)
    known["token_rewards"] = _token_rewards(known)
    known["segment_ids"] = apply(objective.part("segmentation"), known)
    advantages = _advantages(objective, known)
    return keep_sign(advantages, objective.values["advantage_sign"])


def _token_rewards(arrays: Arrays) -> Array:
    """The score of each row on its last token; known rewards of turns on theirs."""
    if "turn_rewards" in arrays:
        return place_turns(arrays["turn_rewards"], arrays["scores"], arrays["mask"])
    return place_outcomes(arrays["scores"], arrays["mask"])


def _advantages(objective: Objective, arrays: Arrays) -> Array:
    """Advantages of all tokens; with `trained_tokens` 0 elsewhere, and whitened over these."""
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
        _of_policy(arrays),
        kl_weight=arrays.get("kl_coefficient", objective.values["kl_weight"]),
        kl=objective.kl,
    )


def _by_component(objective: Objective, arrays: Arrays) -> Arrays:
    """The KL and each reward as rewards of tokens, and what they bring, where they are mixed."""
    if objective.choices["advantage"] != "mixed_components":
        return {}
    nothing = jnp.zeros_like(arrays["token_rewards"])
    found = {"kl_rewards": _without_kl(objective, arrays | {"token_rewards": nothing})}
    for name in ("component_rewards", "component_advantages", "rewards_to_go"):
        part = objective.bind(objective.functions[name])
        found[name] = apply(part, arrays | found)
    if objective.values["multiplier_step"] == "step":
        reached = values_reached(found["rewards_to_go"], arrays["mask"])
        found["rewards_to_go"] = jnp.broadcast_to(reached, found["rewards_to_go"].shape)
    return found


def _running(objective: Objective, arrays: Arrays) -> Arrays:
    """The running statistics after this step, by name."""
    running = {}
    if objective.choices["advantage"] in BASELINE_UPDATES:
        update = objective.bind(BASELINE_UPDATES[objective.choices["advantage"]])
        running["baseline"] = apply(update, arrays)
    if objective.choices["advantage"] == "reweighted_components":
        running["loss_history"] = apply(objective.bind(next_loss_history), arrays)
    if objective.choices["advantage"] == "role_baseline":
        moved = apply(objective.bind(update_role_baselines), arrays)
        running["role_baselines"], running["role_weights"] = moved
    if objective.choices["reward_shaping"] == "hypervolume":
        running["front"], running["meta_reward"] = apply(objective.bind(update_front), arrays)
    if "kl_coefficient" in arrays:
        running["kl_coefficient"] = _kl_coefficient(objective, arrays)
    if objective.choices["sampling_temperature"] != "constant":
        running["temperature_slopes"] = apply(objective.part("sampling_temperature"), arrays)
    return running


def _kl_coefficient(objective: Objective, arrays: Arrays) -> Array:
    """The weight of the KL for the next step, which follows the KL that was measured."""
    mask = arrays["mask"]
    kl = k1(arrays["old_logprobs"], arrays["ref_logprobs"], mask)
    measured = KL_UNITS[objective.values["kl_unit"]](kl, mask).mean()
    samples = mask.any(axis=1).sum()
    control = objective.part("kl_controller")
    return control(arrays["kl_coefficient"], measured, samples)


def _narrowed(objective: Objective, arrays: Arrays, sampled: Array) -> tuple[Arrays, Metrics]:
    """The mask that is left for the loss, and the factors of its tokens."""
    weights, _, metrics = corrected(
        arrays, correction=objective.part("correction"), rejection=objective.part("rejection")
    )
    mask = selected = apply(objective.part("selection"), arrays)
    if objective.choices["selection"] in FULL_DENOMINATOR:
        # What is left out still counts as a token where losses are averaged.
        weights, mask = weights * selected, arrays["mask"]
    share = SumCount((mask & sampled).sum().astype(float), sampled.sum().astype(float))
    return {"mask": mask, "correction": weights}, metrics | {"trained_token_share": share}
