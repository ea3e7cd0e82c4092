"""Slug hapo: normalised entropy, adaptive clip and advantage, group average over tokens."""

from functools import partial

import jax.numpy as jnp

from golden_adapters.common import aggregation_weights, bools, floats, lookup
from golden_adapters.policy_gradient import advantage_part, loss_and_gradients, surrogate_part
from golden_adapters.verl_losses import VERL_AGGREGATIONS
from rljax.objectives.batch_inputs import BATCH_INPUTS
from rljax.objectives.batch_inputs.entropy_level import entropy_statistics
from rljax.objectives.parts import apply
from rljax.objectives.surrogates import adaptive_clip, redistributed


def _level(case: dict, mask):
    args = case["args"]
    part = partial(
        BATCH_INPUTS["entropy_level"],
        entropy_pivot=args["entropy_pivot"],
        authors_unsigned_h=not args.get("signed", False),
    )
    return apply(part, {"current_entropy": floats(case, "entropy"), "mask": mask})


def _entropy(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    found = entropy_statistics(
        floats(case, "entropy"),
        mask,
        entropy_pivot=args["entropy_pivot"],
        entropy_floor=args["eps"],
    )
    return {
        "h_hat": _level(case, mask),
        "pivot": found.pivot,
        "std": found.spread,
        "scale_pos": 1 / found.highest,
        "scale_neg": 1 / found.lowest,
    }


def _loss(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    loss, (gradient, _), metrics = loss_and_gradients(
        case,
        floats(case, "advantages"),
        mask,
        aggregation_weights(mask, VERL_AGGREGATIONS[args["loss_agg_mode"]]),
        ratio="token",
        surrogate=surrogate_part(
            "hapo",
            clip_low=args["cliprange_low"],
            clip_high=args["cliprange_high"],
            dual_clip=args["clip_ratio_c"],
            entropy_clip=args["clip_alpha"] if args["adaptive_clip"] else 0.0,
            entropy_advantage=args["adv_beta"] if args["adaptive_advantage"] else 0.0,
        ),
        arrays={"entropy_level": _level(case, mask)},
    )
    return {
        "pg_loss": loss,
        "grad_log_prob": gradient,
        "pg_clipfrac": metrics["clip_share_low"].mean() + metrics["clip_share_high"].mean(),
        "pg_clipfrac_lower": metrics["dual_clip_share"].mean(),
    }


def _clip(case: dict) -> dict:
    args = case["args"]
    low, high = adaptive_clip(
        floats(case, "h_hat"),
        clip_low=args["cliprange_low"],
        clip_high=args["cliprange_high"],
        entropy_clip=args["clip_alpha"],
    )
    return {"low": low, "high": high}


def _advantage(case: dict) -> dict:
    names = ("advantages", "h_hat", "ratio", "cliprange_low", "cliprange_high")
    arrays = (floats(case, name) for name in names)
    return {"advantages": redistributed(*arrays, entropy_advantage=case["args"]["adv_beta"])}


def _group_average(case: dict) -> dict:
    mask = bools(case, "response_mask")
    part = advantage_part("group_token_zscore", advantage_epsilon=case["args"]["epsilon"])
    groups = jnp.unique(jnp.asarray(case["inputs"]["index"]), return_inverse=True)[1]
    return {"advantages_times_mask": part(floats(case, "token_level_rewards"), mask, groups)}


def hapo(case: dict) -> dict:
    functions = {
        "compute_entropy_h": _entropy,
        "compute_policy_loss": _loss,
        "ada_clip": _clip,
        "ada_advantage": _advantage,
        "compute_hapo_outcome_advantage": _group_average,
    }
    name = case["name"].removeprefix("signed/").split("/")[0]
    return lookup(functions, name, "function")(case)
