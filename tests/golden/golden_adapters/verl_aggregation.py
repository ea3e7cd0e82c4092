"""Slug policy-gradient-agg-kl-is: aggregation, KL and rollout correction of verl."""

import jax
import jax.numpy as jnp

from golden_adapters.common import (
    aggregation_weights,
    bools,
    floats,
    lookup,
    weights_in_larger_batch,
)
from golden_adapters.corrections import rollout_rejection, rollout_weights
from golden_adapters.policy_gradient import (
    function_of,
    kl_part,
)
from golden_adapters.verl_losses import VERL_AGGREGATIONS


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
    estimator = kl_part(lookup(VERL_KL, case["args"]["kind"], "KL estimator"))
    ref = floats(case, "ref_logprob")

    def total(logprobs):
        values = estimator(logprobs, ref, jnp.ones(logprobs.shape, bool))
        return values.sum(), values

    gradient, values = jax.grad(total, has_aux=True)(floats(case, "logprob"))
    return {"kl": values, "grad_logprob": gradient}


def aggregation_and_kl(case: dict) -> dict:
    adapters = {
        "agg_loss": _verl_aggregated,
        "kl_penalty": _verl_kl,
        "compute_rollout_correction_weights": rollout_weights,
        "compute_rollout_rejection_mask": rollout_rejection,
    }
    return lookup(adapters, function_of(case), "function")(case)
