"""Slug policy-gradient-losses: policy losses of verl."""

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, lookup
from golden_adapters.policy_gradient import function_of, loss_and_gradients, surrogate_part

VERL_AGGREGATIONS = {
    "token-mean": "token_mean",
    "token-sum": "token_sum",
    "seq-mean-token-sum": "sequence_mean_token_sum",
    "seq-mean-token-mean": "sequence_mean_token_mean",
    "seq-mean-token-sum-norm": "sequence_mean_token_scale",
}


def losses(case: dict) -> dict:
    function, args = function_of(case), case["args"]
    if "rollout_is_weights" in case["inputs"]:
        raise NotBuilt("correction for a sampler that differs from the trainer")
    mask = bools(case, "response_mask")
    aggregation = lookup(VERL_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
    weights = aggregation_weights(mask, aggregation)
    if function == "compute_policy_loss_vanilla":
        ratio, surrogate = "token", surrogate_part(
            "clipped",
            clip_low=args["clip_low"],
            clip_high=args["clip_high"],
            dual_clip=args["dual_clip_c"],
        )  # fmt: skip
    elif function in ("compute_policy_loss_gpg", "compute_policy_loss_reinforce"):
        ratio, surrogate = "none", surrogate_part("policy_gradient")
    else:
        raise NotBuilt(function)
    loss, (gradient, _), metrics = loss_and_gradients(
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
