"""Slug ngrpo: group z-scores with virtual samples, and learning from one kind of samples."""

from golden_adapters.common import NotBuilt, lookup
from golden_adapters.policy_gradient import advantage_part, function_of
from golden_adapters.verl_advantages import arrays_of
from rljax.objectives.parts import apply


def _virtual(case: dict):
    args = case["args"]
    part = advantage_part(
        "group_zscore_virtual",
        virtual_samples=args["add_max_reward_num"],
        virtual_score=args["max_reward"],
        advantage_epsilon=args["epsilon"],
    )
    return apply(part, arrays_of(case))


def _signed(case: dict):
    args = case["args"]
    if args["gamma"] != 1.0:
        raise NotBuilt(f"discounted outcomes, gamma {args['gamma']}")
    weights = {
        "positive": (1.0, 0.0),
        "negative": (0.0, 1.0),
        "weighted": (args["positive_advantage_weight"], 1.0),
    }
    positive, negative = lookup(weights, args["advantage"], "advantage")
    part = advantage_part("signed_outcome", positive_weight=positive, negative_weight=negative)
    given = arrays_of(case)
    # A row is right if its reward is 1.
    return apply(part, given | {"correct": given["scores"] == 1.0})


FUNCTIONS = {
    "compute_ngrpo_outcome_advantage": _virtual,
    "compute_psr_nsr_outcome_advantage": _signed,
}


def ngrpo(case: dict) -> dict:
    return {"advantages": lookup(FUNCTIONS, function_of(case), "function")(case)}
