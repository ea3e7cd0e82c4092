"""Slug canon: advantages of split groups, and the schedules of their weight."""

import jax.numpy as jnp

from golden_adapters.common import NotBuilt, lookup
from golden_adapters.policy_gradient import advantage_part, function_of
from golden_adapters.verl_advantages import arrays_of
from rljax.objectives.advantages.canon_schedule import intra_weight
from rljax.objectives.parts import apply

PREFIX, SUFFIX = "compute_dr_", "_group_outcome_advantage"
# The authors' code: which half is discouraged where alpha < 1, by metric.
ENTROPY = dict(name="canon_entropy", discouraged="low")
PARTS = {
    "entropy_per_token": ENTROPY,
    "length_on_mean": dict(name="canon_length", discouraged="high"),
    "random": dict(name="canon_order"),
    "entropy_per_token_cosine_with_restart": ENTROPY | {"inter_schedule": "intra_first"},
    "entropy_per_token_cosine_with_restart_r": ENTROPY | {"inter_schedule": "inter_first"},
    "entropy_per_token_annel": ENTROPY | {"inter_schedule": "accuracy"},
}


def _schedule(case: dict) -> dict:
    args = case["args"]
    fields = dict(
        inter_steps=args["total"], inter_warmup=args["warmup"], inter_cycles=args["cycles"]
    )
    weights = {
        f"first_{kind}": intra_weight(
            case["inputs"]["step"], jnp.zeros(()), inter_schedule=f"{kind}_first", **fields
        )
        for kind in ("intra", "inter")
    }
    return weights


def canon(case: dict) -> dict:
    function, args = function_of(case), case["args"]
    if function == "cosine_annealing_with_restart":
        return _schedule(case)
    if function == "compute_dr_grpo_outcome_advantage":
        if args["max_length"] != 1:
            raise NotBuilt("a divisor in the advantage of Dr. GRPO: the aggregation divides")
        return {"advantages": apply(advantage_part("group_mean"), arrays_of(case))}
    kind = function.removeprefix(PREFIX).removesuffix(SUFFIX)
    fields = dict(lookup(PARTS, kind, "grouping"), advantage_divisor=args["max_length"])
    names = {"mu": "inter_weight", "alpha": "discouraged_scale"}
    fields |= {ours: args[theirs] for theirs, ours in names.items() if theirs in args}
    step = {"step": jnp.asarray(args.get("step", 0))}
    return {"advantages": apply(advantage_part(**fields), arrays_of(case) | step)}
