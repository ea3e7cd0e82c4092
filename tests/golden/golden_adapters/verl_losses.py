"""Slugs policy-gradient-losses and cov-entropy: policy losses of verl and of its descendants."""

from functools import partial

import jax.numpy as jnp

from golden_adapters.common import (
    NotBuilt,
    aggregation_weights,
    bools,
    floats,
    lookup,
    weights_in_larger_batch,
)
from golden_adapters.policy_gradient import function_of, loss_and_gradients, surrogate_part
from rljax.objectives.batch_inputs import BATCH_INPUTS, TOKEN_WEIGHTS, weight_metrics
from rljax.objectives.parts import apply

VERL_AGGREGATIONS = {
    "token-mean": "token_mean",
    "token-sum": "token_sum",
    "seq-mean-token-sum": "sequence_mean_token_sum",
    "seq-mean-token-mean": "sequence_mean_token_mean",
    "seq-mean-token-sum-norm": "sequence_mean_token_scale",
}

# Their function -> our ratio, surrogate, and its fields by the names of their arguments.
_CLIPS = {"clip_low": "clip_low", "clip_high": "clip_high"}
_DIVERGENCE = {
    "divergence_low": "delta_low",
    "divergence_high": "delta_high",
    "ratio_cap": "tis_cap",
}
VERL_LOSSES = {
    "vanilla": ("token", "clipped", {**_CLIPS, "dual_clip": "dual_clip_c"}),
    "gspo": ("sequence", "clipped", _CLIPS),
    "cispo": ("token", "cispo", _CLIPS),
    "gpg": ("none", "policy_gradient", {}),
    "reinforce": ("none", "policy_gradient", {}),
    "sapo": (
        "token",
        "sapo",
        {"sapo_temperature_positive": "tau_pos", "sapo_temperature_negative": "tau_neg"},
    ),
    "geo_mean": (
        "token",
        "geometric_mean",
        {"log_clip_low": "clip_low", "log_clip_high": "clip_high"},
    ),
    "dppo_tv": ("token", "dppo_tv", _DIVERGENCE),
    "dppo_kl": ("token", "dppo_kl", _DIVERGENCE),
    "dro": ("token", "dro", {"quadratic_weight": "beta"}),
    "clip_cov": ("token", "clipped", _CLIPS),
    "kl_cov": ("token", "kl_cov", {"covariance_kl_weight": "ppo_kl_coef"}),
}

# Their names -> ours; several are added up. Others are 0 in their code.
_CLIP_SHARES = ("clip_share_low", "clip_share_high")
METRICS = {
    "geo_mean": {
        "pg_clipfrac": ("outside_share_positive",),
        "pg_clipfrac_lower": ("outside_share_negative",),
    },
    "dppo_tv": {"pg_clipfrac": ("divergence_share",)},
    "dppo_kl": {"pg_clipfrac": ("divergence_share",)},
    "clip_cov": {"pg_clipfrac": ("token_weight_zero_share",)},
    "kl_cov": {"ppo_kl": ("log_ratio_abs",)},
    "sapo": {"pg_clipfrac": ()},
}
_DEFAULT = {
    "pg_clipfrac": _CLIP_SHARES,
    "ppo_kl": ("old_policy_kl",),
    "pg_clipfrac_lower": ("dual_clip_share",),
}


def batch_arrays(case: dict, mask, advantages=None) -> dict:
    """What functions of the whole batch read: the case is one update of one batch."""
    return {
        "current_logprobs": floats(case, "log_prob"),
        "old_logprobs": floats(case, "old_log_prob"),
        "advantages": floats(case, "advantages") if advantages is None else advantages,
        "mask": mask,
    }


def _whole_batch(case: dict, name: str, mask, args: dict) -> dict:
    """Constants of the batch that the surrogate reads, or by which it is multiplied."""
    arrays = batch_arrays(case, mask)
    if name == "kl_cov":
        made = partial(BATCH_INPUTS["high_covariance"], covariance_share=args["kl_cov_ratio"])
        return {"high_covariance": apply(made, arrays)}
    if name == "clip_cov":
        made = partial(
            TOKEN_WEIGHTS["clip_cov"],
            clip_low=args["clip_low"],
            clip_high=args["clip_high"],
            covariance_share=args["clip_cov_ratio"],
            covariance_low=args["cov_lb"],
            covariance_high=args["cov_ub"],
        )
        # The cases choose all candidates: no noise can change the choice.
        return {"correction": apply(made, arrays | {"noise": jnp.zeros(mask.shape)})}
    return {}


def _metrics(name: str, metrics: dict, expected: dict) -> dict:
    ours = _DEFAULT | METRICS.get(name, {})
    zero = jnp.zeros(())
    return {
        theirs: sum((metrics[part].mean() for part in ours[theirs] if part in metrics), zero)
        for theirs in expected
    }


def loss_of(case: dict, name: str, args: dict) -> tuple:
    """Loss, gradient and metrics of verl's loss `name`."""
    ratio, surrogate, fields = lookup(VERL_LOSSES, name, "loss")
    mask = bools(case, "response_mask")
    if name == "geo_mean":  # a mean over all rows, empty ones as well
        weights = weights_in_larger_batch(mask, "sequence_mean_token_mean", rows=mask.shape[0])
    else:
        aggregation = lookup(VERL_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
        weights = aggregation_weights(mask, aggregation)
    arrays = _whole_batch(case, name, mask, args)
    metrics = weight_metrics(arrays["correction"], mask) if name == "clip_cov" else {}
    if "rollout_is_weights" in case["inputs"]:
        if "correction" in arrays:
            raise NotBuilt("two factors of one loss")
        arrays["correction"] = floats(case, "rollout_is_weights")
    loss, (gradient, _), of_loss = loss_and_gradients(
        case,
        floats(case, "advantages"),
        mask,
        weights,
        ratio=ratio,
        surrogate=surrogate_part(surrogate, **{ours: args[key] for ours, key in fields.items()}),
        arrays=arrays,
    )
    return loss, gradient, metrics | of_loss


def losses(case: dict) -> dict:
    name = function_of(case).removeprefix("compute_policy_loss_").split("+")[0]
    loss, gradient, metrics = loss_of(case, name, case["args"])
    outputs = {"loss": loss, "grad_log_prob": gradient}
    if "metrics" in case["outputs"]:
        outputs["metrics"] = _metrics(name, metrics, case["outputs"]["metrics"])
    return outputs


def cov_entropy(case: dict) -> dict:
    name, args = case["name"].split("/")[0], case["args"]
    ours = {"loss_agg_mode": "token-mean"}
    if name == "clip_cov":
        ours |= {
            "clip_low": args["cliprange_low"],
            "clip_high": args["cliprange_high"],
            "clip_cov_ratio": args["clip_ratio"],
            "cov_lb": args["clip_cov_lb"],
            "cov_ub": args["clip_cov_ub"],
        }
    else:
        # Their percentage is at most the number of tokens: 42 tokens and 50 % make 42 %.
        percent = min(args["k_percent"], int(bools(case, "response_mask").sum()))
        ours |= {"kl_cov_ratio": percent / 100, "ppo_kl_coef": args["ppo_kl_coef"]}
    loss, gradient, metrics = loss_of(case, name, ours)
    outputs = {"pg_loss": loss, "grad_log_prob": gradient}
    if name == "clip_cov":
        outputs["frac_detached"] = metrics["token_weight_zero_share"].mean()
    return outputs
