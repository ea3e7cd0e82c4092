"""Slug lp-reg: rare tokens are pulled to a policy without its noise."""

from functools import partial

import jax.numpy as jnp

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, lookup
from golden_adapters.policy_gradient import loss_and_gradients, surrogate_part
from golden_adapters.verl_losses import VERL_AGGREGATIONS, batch_arrays
from rljax.objectives.batch_inputs import BATCH_INPUTS
from rljax.objectives.batch_inputs.rare_tokens import not_noise, proxy_log_distribution
from rljax.objectives.parts import apply


def _loss(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    if args["logp_pos_k_percent"] or args["kl_type"] != "low_var_kl":
        raise NotBuilt("regularised tokens with A >= 0, or another estimator than k3")
    rare = partial(BATCH_INPUTS["rare_negatives"], rare_share=args["logp_neg_k_percent"])
    arrays = batch_arrays(case, mask)
    loss, (gradient, _), metrics = loss_and_gradients(
        case,
        arrays["advantages"],
        mask,
        aggregation_weights(mask, VERL_AGGREGATIONS[args["loss_agg_mode"]]),
        ratio="token",
        surrogate=surrogate_part(
            "lp_reg",
            clip_low=args["cliprange_low"],
            clip_high=args["cliprange_high"],
            proxy_weight=args["ppo_kl_coef"],
        ),
        arrays={
            "proxy_logprobs": floats(case, "tgt_log_prob"),
            "rare_negatives": apply(rare, arrays),
        },
    )
    share = metrics["clip_share_low"].mean() + metrics["clip_share_high"].mean()
    return {"pg_loss": loss, "grad_log_prob": gradient, "pg_clipfrac": share}


def _proxy(case: dict) -> dict:
    args = case["args"]
    rule = lookup({"minp": "min_p", "fixed": "fixed"}, args["regular_type"], "rule")
    logits = floats(case, "logits")
    settings = dict(proxy_threshold=args["threshold"], proxy_rule=rule)
    proxy = jnp.exp(proxy_log_distribution(logits, **settings))
    return {"proxy_probs": proxy, "kept": not_noise(logits, **settings)}


def lp_reg(case: dict) -> dict:
    name = case["name"].split("/")[0]
    return lookup({"lp_reg": _loss, "apply_min_p": _proxy}, name, "function")(case)
