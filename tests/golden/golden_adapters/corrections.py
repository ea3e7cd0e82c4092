"""Weights and rejections of verl's rollout correction, in slug policy-gradient-agg-kl-is."""

import functools

import jax.numpy as jnp

from golden_adapters.common import bools, floats, part
from rljax.objectives.corrections import REJECTIONS
from rljax.objectives.diagnostics import effective_sample_size

_STATISTICS = {"token": "tokens", "seq": "sequences"}


def _ratio(case: dict) -> dict:
    """Only the log-ratio is given: that of a sampler which reports 0."""
    log_ratio, mask = floats(case, "log_ratio"), bools(case, "response_mask")
    return dict(old=log_ratio, behavior=jnp.zeros_like(log_ratio), mask=mask)


def rollout_weights(case: dict) -> dict:
    args, given = case["args"], _ratio(case)
    bounds = str(args["rollout_is_threshold"]).split("_")
    fields = dict(
        correction_level=args["rollout_is"],
        correction_cap=float(bounds[-1]),
        correction_normalised=args["rollout_is_batch_normalize"],
    )
    if len(bounds) == 2:
        fields["correction_floor"] = float(bounds[0])
    weigh = part("grpo", "correction", "zeroed" if len(bounds) == 2 else "truncated", **fields)
    weights = weigh(*given.values()).weights
    factor = None
    if args["rollout_is_batch_normalize"]:
        # What everything was divided by, read off a token with a weight.
        plain = part(
            "grpo",
            "correction",
            weigh.func.__name__,
            **{**fields, "correction_normalised": False},
        )
        largest = jnp.unravel_index(jnp.argmax(weights), weights.shape)
        factor = plain(*given.values()).weights[largest] / weights[largest]
    return {
        "weights": weights,
        "eff_sample_size": effective_sample_size(weights, given["mask"]),
        "norm_factor": factor,
    }


def _bounds(statistic: str, threshold: str) -> tuple[float, float]:
    """Lowest and highest value; a single number bounds k1 by its reciprocal too."""
    bounds = [float(bound) for bound in threshold.split("_")]
    if len(bounds) == 2:
        return bounds[0], bounds[1]
    return (1.0 / bounds[0] if statistic == "k1" else 0.0), bounds[0]


def rollout_rejection(case: dict) -> dict:
    args, given = case["args"], _ratio(case)
    names = args["rollout_rs"].split(",")
    thresholds = str(args["rollout_rs_threshold"]).split(",")
    fields, options = {}, set()
    for name, threshold in zip(names, thresholds * (len(names) // len(thresholds)), strict=True):
        level, *reduction, statistic = name.split("_")
        low, high = _bounds(statistic, threshold)
        prefix = {"token": "reject_token", "seq": "reject_sequence"}[level]
        fields |= {
            f"{prefix}_statistic": statistic,
            f"{prefix}_low": low,
            f"{prefix}_high": high,
        }
        fields |= {f"{prefix}_reduction": reduction[0]} if reduction else {}
        options.add(_STATISTICS[level])
    option = options.pop() if len(options) == 1 else "tokens_and_sequences"
    rejected = functools.partial(REJECTIONS[option], **fields)(*given.values())
    return {
        "mask": rejected.kept,
        "masked_fraction": rejected.metrics["rejected_share"].mean(),
    }
