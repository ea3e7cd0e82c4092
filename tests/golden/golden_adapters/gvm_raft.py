"""Slug gvm-raft: RAFT and RAFT++, whose negative scores count as 0; samples by variance."""

import jax
import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats
from rljax.objectives.advantages import keep_sign
from rljax.objectives.parts import apply
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.variance_allocation import by_variance, sample_shares, whole_samples
from rljax.registry import resolve_objective


def gvm_raft(case: dict) -> dict:
    if case["name"].startswith("alloc"):
        return _allocation(case)
    method = "raft" if "vanilla" in case["name"] else "raft_plus_plus"
    args, mask = case["args"], bools(case, "response_mask")
    widths = {name: args[name] for name in ("clip_low", "clip_high")}
    objective = resolve_objective(method, {} if method == "raft" else widths)
    arrays = {"mask": mask, "group_ids": jnp.arange(len(mask))}
    arrays["token_rewards"] = floats(case, "token_level_rewards")
    advantages = apply(objective.part("advantage"), arrays)
    advantages = keep_sign(advantages, objective.values["advantage_sign"])
    weights = objective.part("aggregation")(mask)
    given = arrays | {"advantages": advantages, "old_logprobs": floats(case, "old_logp")}

    def total(logprobs):
        loss, metrics = policy_gradient_loss(
            given | {"logprobs": logprobs},
            ratio=objective.part("ratio"),
            surrogate=objective.part("surrogate"),
        )
        return jnp.sum(weights * loss), metrics

    (loss, metrics), gradient = jax.value_and_grad(total, has_aux=True)(floats(case, "logp"))
    shares = (metrics.get(f"clip_share_{side}") for side in ("low", "high"))
    clipped = [share.mean() for share in shares if share is not None]
    return {
        "advantages": advantages,
        "loss": loss,
        "clipfrac": sum(clipped),
        "grad_logp": gradient,
    }


def _allocation(case: dict) -> dict:
    args, budget = case["args"], case["args"]["total_budget"]
    plan = by_variance(
        damping=args["alpha"],
        damping_power=args["beta"],
        success_limit=args["filter_threshold"],
        least_right=args["filter_insufficient"],
    )
    success, norms = (np.array(case["inputs"][name]) for name in ("accept_rate", "grad_norm"))
    shares = sample_shares(success, norms, budget, plan)
    return {"ratio": shares, "n_samples": whole_samples(shares, budget)}
