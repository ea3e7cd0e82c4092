"""Slug policy-gradient-trl: the loss of TRL's GRPO trainer."""

from functools import partial

import jax.numpy as jnp

from golden_adapters.common import (
    NotBuilt,
    aggregation_weights,
    bools,
    floats,
    lookup,
    part,
    weights_in_larger_batch,
)
from golden_adapters.policy_gradient import kl_part, loss_and_gradients, surrogate_part
from rljax.objectives.batch_inputs import TOKEN_WEIGHTS
from rljax.objectives.parts import apply

TRL_AGGREGATIONS = {
    "grpo": "sequence_mean_token_mean",
    "sapo": "sequence_mean_token_mean",
    "bnpo": "token_mean",
    "dapo": "token_mean",
    "cispo": "token_mean",
    "vespo": "token_mean",
    "dr_grpo": "sequence_mean_token_scale",
    "luspo": "sequence_mean_token_sum",
}
# Loss types that divide by the tokens of the whole batch of an update.
GLOBAL_TOKENS = ("dapo", "cispo", "vespo")


def _trl_surrogate(args: dict):
    if args["loss_type"] == "cispo":
        # Theirs is the cap itself.
        return surrogate_part("cispo", clip_high=args["epsilon_high"] - 1)
    if args["loss_type"] in ("sapo", "vespo"):
        return surrogate_part(args["loss_type"])
    clips = dict(clip_low=args["epsilon_low"], clip_high=args["epsilon_high"])
    if args["delta"] is None:
        return surrogate_part("clipped", **clips)
    return surrogate_part("clipped_capped", ratio_cap=args["delta"], **clips)


def _factor(case: dict, mask, advantages) -> dict:
    """The constant factor of the surrogate: selection, rejection, importance weights."""
    args, factor = case["args"], jnp.ones(mask.shape)
    if args["top_entropy_quantile"] < 1:
        share = args["top_entropy_quantile"]
        kept = part("grpo", "selection", "top_entropy", entropy_share=share)
        factor *= kept(mask, floats(case, "entropy"))
    if args["off_policy_mask_threshold"] is not None:
        arrays = {
            "current_logprobs": floats(case, "log_prob"),
            "behavior_logprobs": floats(case, "old_log_prob"),
            "advantages": advantages,
            "mask": mask,
        }
        limit = args["off_policy_mask_threshold"]
        weigh = partial(TOKEN_WEIGHTS["off_policy"], off_policy_divergence=limit)
        factor *= apply(weigh, arrays)
    if "importance_sampling_ratio" in case["inputs"]:
        if args["loss_type"] == "vespo":
            raise NotBuilt("vespo's weight of sampler and trainer together")
        factor *= floats(case, "importance_sampling_ratio")
    return {"correction": factor}


def loss(case: dict) -> dict:
    args = case["args"]
    aggregation = lookup(TRL_AGGREGATIONS, args["loss_type"], "loss type")
    mask = bools(case, "completion_mask")
    advantages = jnp.where(mask, floats(case, "advantages")[:, None], 0.0)
    if args["loss_type"] in GLOBAL_TOKENS:
        weights = weights_in_larger_batch(mask, aggregation, tokens=args["num_items_in_batch"])
    else:
        length = args["max_completion_length"] if args["loss_type"] == "dr_grpo" else None
        weights = aggregation_weights(mask, aggregation, length)
    loss, (gradient, entropy_gradient), _ = loss_and_gradients(
        case,
        advantages,
        mask,
        weights,
        ratio=args["importance_sampling_level"],
        surrogate=_trl_surrogate(args),
        arrays=_factor(case, mask, advantages),
        kl=kl_part("k3") if args["beta"] else None,
        kl_weight=args["beta"],
        kl_importance_weighted=bool(args["beta"]) and args["use_bias_correction_kl"],
        entropy_weight=args["entropy_coef"],
    )
    return {"loss": loss, "grad_log_prob": gradient, "grad_entropy": entropy_gradient}
