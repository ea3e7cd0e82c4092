"""Slug policy-gradient-trl: the loss of TRL's GRPO trainer."""

import jax.numpy as jnp

from golden_adapters.common import (
    NotBuilt,
    aggregation_weights,
    bools,
    floats,
    lookup,
    weights_in_larger_batch,
)
from golden_adapters.policy_gradient import kl_part, loss_and_gradients, surrogate_part

TRL_AGGREGATIONS = {
    "grpo": "sequence_mean_token_mean",
    "bnpo": "token_mean",
    "dapo": "token_mean",
    "dr_grpo": "sequence_mean_token_scale",
}


def _trl_surrogate(args: dict):
    if args["importance_sampling_level"] != "token":
        raise NotBuilt("a ratio per sequence")
    if args["top_entropy_quantile"] < 1:
        raise NotBuilt("selection of tokens by entropy")
    if args["off_policy_mask_threshold"] is not None:
        raise NotBuilt("off-policy sequence mask")
    if args["delta"] is not None and args["delta"] < 1 + args["epsilon_high"]:
        # TRL caps the unclipped ratio before the maximum; only above 1 + clip_high is that the
        # dual clip.
        raise NotBuilt("a cap on the ratio below the clip range")
    return surrogate_part(
        "clipped",
        clip_low=args["epsilon_low"],
        clip_high=args["epsilon_high"],
        dual_clip=args["delta"],
    )


def loss(case: dict) -> dict:
    args = case["args"]
    aggregation = lookup(TRL_AGGREGATIONS, args["loss_type"], "loss type")
    surrogate = _trl_surrogate(args)
    if "importance_sampling_ratio" in case["inputs"]:
        raise NotBuilt("correction for a sampler that differs from the trainer")
    mask = bools(case, "completion_mask")
    if args["loss_type"] == "dapo":
        weights = weights_in_larger_batch(mask, aggregation, tokens=args["num_items_in_batch"])
    else:
        length = args["max_completion_length"] if args["loss_type"] == "dr_grpo" else None
        weights = aggregation_weights(mask, aggregation, length)
    loss, (gradient, entropy_gradient), _ = loss_and_gradients(
        case,
        jnp.where(mask, floats(case, "advantages")[:, None], 0.0),
        mask,
        weights,
        ratio="token",
        surrogate=surrogate,
        kl=kl_part("k3") if args["beta"] else None,
        kl_weight=args["beta"],
        kl_importance_weighted=bool(args["beta"]) and args["use_bias_correction_kl"],
        entropy_weight=args["entropy_coef"],
    )
    return {"loss": loss, "grad_log_prob": gradient, "grad_entropy": entropy_gradient}
