"""Slug policy-gradient-tunix: advantages and losses of tunix."""

import jax.numpy as jnp

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, lookup
from golden_adapters.policy_gradient import (
    advantage_part,
    function_of,
    kl_part,
    loss_and_gradients,
    surrogate_part,
)
from golden_adapters.ppo import tunix_gae

TUNIX_AGGREGATIONS = {
    "token-mean": "token_mean",
    "sequence-mean-token-mean": "sequence_mean_token_mean",
    "sequence-mean-token-scale": "sequence_mean_token_scale",
    "seq-mean-token-sum": "sequence_mean_token_sum",
    "sequence-mean-token-sum-norm": "sequence_mean_token_sum",
}


def _tunix_advantage(case: dict, name: str, **settings) -> dict:
    rewards = floats(case, "rewards")[:, None]
    groups = jnp.arange(rewards.shape[0]) // case["args"]["num_generations"]
    advantages = advantage_part(name, **settings)(rewards, jnp.ones(rewards.shape, bool), groups)
    return {"advantages": advantages[:, 0]}


TUNIX_RATIOS = {"grpo": "token", "gspo-token": "sequence"}


def _tunix_loss(case: dict) -> dict:
    args, mask = case["args"], bools(case, "mask")
    aggregation = lookup(TUNIX_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
    beta = args.get("beta", 0.0)
    loss, (gradient, _), _ = loss_and_gradients(
        case,
        jnp.where(mask, floats(case, "advantages")[:, None], 0.0),
        mask,
        aggregation_weights(mask, aggregation),
        ratio=lookup(TUNIX_RATIOS, args["loss_algo"], "ratio"),
        surrogate=surrogate_part(
            "clipped",
            clip_low=args["epsilon"],
            clip_high=args.get("epsilon_high", args["epsilon"]),
            dual_clip=args.get("epsilon_c"),
        ),
        kl=kl_part("k3") if beta else None,
        kl_weight=beta,
    )
    return {"loss": loss, "grad_log_prob": gradient}


def tunix(case: dict) -> dict:
    function, args = function_of(case), case["args"]
    if function == "compute_advantages":
        if args.get("ddof", 1) != 1:
            raise NotBuilt("a biased deviation")
        return _tunix_advantage(case, "group_zscore", advantage_epsilon=args["epsilon"])
    if function == "compute_rloo_advantages":
        return _tunix_advantage(case, "group_leave_one_out")
    if function == "compute_drgrpo_advantages":
        return _tunix_advantage(case, "group_mean")
    others = {"grpo_loss_fn": _tunix_loss, "compute_gae_advantages": tunix_gae}
    return lookup(others, function, "function")(case)
