"""Slugs policy-gradient-*: advantages, losses, aggregation and KL of verl, TRL and tunix."""

import jax
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
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.registry import resolve_objective


def _function(case: dict) -> str:
    return case.get("function", case["name"].split("/")[0]).split(" ")[0]


def _advantage(name: str, **fields):
    return part("grpo", "advantage", name, **fields)


def _surrogate(name: str, **fields):
    return part("grpo", "surrogate", name, **fields)


def _kl(estimator: str):
    return resolve_objective("grpo", {"kl_estimator": estimator}).kl


def _loss_and_gradients(case, advantages, mask, weights, *, ratio, surrogate, **settings):
    """The scalar that a training step minimises, its gradients and the metrics."""
    old = floats(case, "old_log_prob")
    ref = floats(case, "ref_log_prob") if settings.get("kl") else None
    entropy = floats(case, "entropy") if settings.get("entropy_weight") else None
    settings = {"kl": None, "kl_weight": 0.0, "entropy_weight": 0.0} | settings

    def total(logprobs, entropy):
        loss, metrics = policy_gradient_loss(
            logprobs, old, ref, entropy, advantages, mask,
            ratio=part("grpo", "ratio", ratio), surrogate=surrogate, **settings,
        )  # fmt: skip
        return jnp.sum(weights * loss), metrics

    argnums = 0 if entropy is None else (0, 1)
    (loss, metrics), gradients = jax.value_and_grad(total, argnums, has_aux=True)(
        floats(case, "log_prob"), entropy
    )
    if entropy is None:
        gradients = (gradients, None)
    return loss, gradients, metrics


# ---------------------------------------------------------------------------- verl


def _verl_advantage(case: dict):
    rewards, mask = floats(case, "token_level_rewards"), bools(case, "response_mask")
    groups, args = jnp.asarray(case["inputs"]["index"]), case["args"]
    function = _function(case)
    if function in ("compute_grpo_outcome_advantage", "compute_grpo_vectorized_outcome_advantage"):
        if args["norm_adv_by_std_in_grpo"]:
            zscore = _advantage("group_zscore", advantage_epsilon=args["epsilon"])
            return zscore(rewards, mask, groups)
        return _advantage("group_mean")(rewards, mask, groups)
    leave_one_out = _advantage("group_leave_one_out")(rewards, mask, groups)
    if function == "compute_rloo_vectorized_outcome_advantage":
        return leave_one_out
    if function == "compute_rloo_outcome_advantage":
        # The loop version hands a lone sample's score through, as our "none" does; our
        # leave-one-out follows the vectorised version, which gives it 0.
        alone = (groups[:, None] == groups).sum(axis=-1, keepdims=True) == 1
        return jnp.where(alone, _advantage("none")(rewards, mask, groups), leave_one_out)
    raise NotBuilt(function)


def verl_advantages(case: dict) -> dict:
    advantages = _verl_advantage(case)
    return {"advantages": advantages, "returns": advantages}


VERL_AGGREGATIONS = {
    "token-mean": "token_mean",
    "token-sum": "token_sum",
    "seq-mean-token-sum": "sequence_mean_token_sum",
    "seq-mean-token-mean": "sequence_mean_token_mean",
    "seq-mean-token-sum-norm": "sequence_mean_token_scale",
}


def verl_losses(case: dict) -> dict:
    function, args = _function(case), case["args"]
    if "rollout_is_weights" in case["inputs"]:
        raise NotBuilt("correction for a sampler that differs from the trainer")
    mask = bools(case, "response_mask")
    aggregation = lookup(VERL_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
    weights = aggregation_weights(mask, aggregation)
    if function == "compute_policy_loss_vanilla":
        ratio, surrogate = "token", _surrogate(
            "clipped",
            clip_low=args["clip_low"],
            clip_high=args["clip_high"],
            dual_clip=args["dual_clip_c"],
        )  # fmt: skip
    elif function in ("compute_policy_loss_gpg", "compute_policy_loss_reinforce"):
        ratio, surrogate = "none", _surrogate("policy_gradient")
    else:
        raise NotBuilt(function)
    loss, (gradient, _), metrics = _loss_and_gradients(
        case, floats(case, "advantages"), mask, weights, ratio=ratio, surrogate=surrogate
    )
    outputs = {"loss": loss, "grad_log_prob": gradient, "metrics": {}}
    if function == "compute_policy_loss_vanilla":
        shares = metrics["clip_share_low"].mean() + metrics["clip_share_high"].mean()
        outputs["metrics"] = {
            "pg_clipfrac": shares,
            "ppo_kl": metrics["old_policy_kl"].mean(),
            "pg_clipfrac_lower": metrics["dual_clip_share"].mean(),
        }
    return outputs


def _verl_aggregated(case: dict) -> dict:
    args, losses, mask = case["args"], floats(case, "loss_mat"), bools(case, "loss_mask")
    aggregation = lookup(VERL_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
    if "loss_scale_factor" in args:
        weights = aggregation_weights(mask, aggregation, args["loss_scale_factor"])
    elif aggregation == "token_mean":
        weights = weights_in_larger_batch(mask, aggregation, tokens=args.get("batch_num_tokens"))
    else:
        weights = weights_in_larger_batch(mask, aggregation, rows=args.get("global_batch_size"))
    # verl averages gradients over dp_size workers and therefore scales each worker's loss up;
    # adding up parts of one batch, as here, needs no such factor.
    return {"loss": args.get("dp_size", 1) * jnp.sum(weights * losses)}


VERL_KL = {"k1": "k1", "k2": "k2", "k3": "k3", "k1+": "k1_plus", "k3+": "k3_plus"}


def _verl_kl(case: dict) -> dict:
    estimator = _kl(lookup(VERL_KL, case["args"]["kind"], "KL estimator"))
    ref = floats(case, "ref_logprob")

    def total(logprobs):
        values = estimator(logprobs, ref, jnp.ones(logprobs.shape, bool))
        return values.sum(), values

    gradient, values = jax.grad(total, has_aux=True)(floats(case, "logprob"))
    return {"kl": values, "grad_logprob": gradient}


def verl_aggregation_and_kl(case: dict) -> dict:
    adapters = {"agg_loss": _verl_aggregated, "kl_penalty": _verl_kl}
    return lookup(adapters, _function(case), "function")(case)


# ---------------------------------------------------------------------------- TRL

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
    return _surrogate(
        "clipped",
        clip_low=args["epsilon_low"],
        clip_high=args["epsilon_high"],
        dual_clip=args["delta"],
    )


def trl(case: dict) -> dict:
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
    loss, (gradient, entropy_gradient), _ = _loss_and_gradients(
        case,
        jnp.where(mask, floats(case, "advantages")[:, None], 0.0),
        mask,
        weights,
        ratio="token",
        surrogate=surrogate,
        kl=_kl("k3") if args["beta"] else None,
        kl_weight=args["beta"],
        kl_importance_weighted=bool(args["beta"]) and args["use_bias_correction_kl"],
        entropy_weight=args["entropy_coef"],
    )
    return {"loss": loss, "grad_log_prob": gradient, "grad_entropy": entropy_gradient}


# ---------------------------------------------------------------------------- tunix

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
    advantages = _advantage(name, **settings)(rewards, jnp.ones(rewards.shape, bool), groups)
    return {"advantages": advantages[:, 0]}


def _tunix_loss(case: dict) -> dict:
    args, mask = case["args"], bools(case, "mask")
    if args["loss_algo"] != "grpo":
        raise NotBuilt("a ratio per sequence")
    aggregation = lookup(TUNIX_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
    beta = args.get("beta", 0.0)
    loss, (gradient, _), _ = _loss_and_gradients(
        case,
        jnp.where(mask, floats(case, "advantages")[:, None], 0.0),
        mask,
        aggregation_weights(mask, aggregation),
        ratio="token",
        surrogate=_surrogate(
            "clipped",
            clip_low=args["epsilon"],
            clip_high=args.get("epsilon_high", args["epsilon"]),
            dual_clip=args.get("epsilon_c"),
        ),
        kl=_kl("k3") if beta else None,
        kl_weight=beta,
    )
    return {"loss": loss, "grad_log_prob": gradient}


def tunix(case: dict) -> dict:
    function, args = _function(case), case["args"]
    if function == "compute_advantages":
        if args.get("ddof", 1) != 1:
            raise NotBuilt("a biased deviation")
        return _tunix_advantage(case, "group_zscore", advantage_epsilon=args["epsilon"])
    if function == "compute_rloo_advantages":
        return _tunix_advantage(case, "group_leave_one_out")
    if function == "compute_drgrpo_advantages":
        return _tunix_advantage(case, "group_mean")
    return lookup({"grpo_loss_fn": _tunix_loss}, function, "function")(case)
