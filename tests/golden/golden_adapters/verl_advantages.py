"""Slug policy-gradient-advantages: advantages of verl; and the split advantages of slug hpt."""

import jax.numpy as jnp
from jax import Array

from golden_adapters.common import bools, floats, lookup
from golden_adapters.policy_gradient import advantage_part, function_of
from golden_adapters.ppo import verl_gae
from rljax.objectives.advantages.rewards_to_go import rewards_to_go
from rljax.objectives.parts import apply

ARRAYS = {
    "token_level_rewards": "token_rewards",
    "old_log_probs": "old_logprobs",
    "sum_pi_squared": "old_collision",
    "reward_baselines": "greedy_scores",
    "entropy": "old_entropy",
    "values": "values",
}


def arrays_of(case: dict) -> dict[str, Array]:
    """The arrays of a case by the names of rljax; `scores` are the sums of the token rewards."""
    given = {
        ours: floats(case, theirs) for theirs, ours in ARRAYS.items() if theirs in case["inputs"]
    }
    given["mask"] = bools(case, "response_mask")
    if "index" in case["inputs"]:
        given["group_ids"] = jnp.asarray(case["inputs"]["index"])
    if "on_policy" in case["inputs"]:
        given["demonstration"] = ~bools(case, "on_policy")
    given["scores"] = jnp.where(given["mask"], given["token_rewards"], 0.0).sum(axis=-1)
    return given


def advantages_by(case: dict, name: str, **fields) -> Array:
    """Advantages of a case by the option `name`."""
    return apply(advantage_part(name, **fields), arrays_of(case))


def _group(case: dict) -> Array:
    args = case["args"]
    if args["norm_adv_by_std_in_grpo"]:
        return advantages_by(case, "group_zscore", advantage_epsilon=args["epsilon"])
    return advantages_by(case, "group_mean")


def _leave_one_out_by_loop(case: dict) -> Array:
    # The loop version hands a lone sample's score through, as our "none" does; our leave-one-out
    # follows the vectorised version, which gives it 0.
    groups = jnp.asarray(case["inputs"]["index"])
    alone = (groups[:, None] == groups).sum(axis=-1, keepdims=True) == 1
    others = advantages_by(case, "group_leave_one_out")
    return jnp.where(alone, advantages_by(case, "none"), others)


def _pass_at_k(case: dict) -> Array:
    args = case["args"]
    return advantages_by(
        case,
        "pass_at_k",
        divide_by_deviation=args["norm_adv_by_std_in_grpo"],
        advantage_epsilon=args["epsilon"],
    )


def _optimal_token_baseline(case: dict) -> Array:
    args = case["args"]
    return advantages_by(
        case,
        "optimal_token_baseline",
        zero_tail=args["handle_zero_tail"],
        baseline_epsilon=args["epsilon"],
    )


# Every function returns its advantages as "returns" too.
OUTCOMES = {
    "compute_grpo_outcome_advantage": _group,
    "compute_grpo_vectorized_outcome_advantage": _group,
    "compute_grpo_passk_outcome_advantage": _pass_at_k,
    "compute_rloo_outcome_advantage": _leave_one_out_by_loop,
    "compute_rloo_vectorized_outcome_advantage": lambda case: advantages_by(
        case, "group_leave_one_out"
    ),
    "compute_opo_outcome_advantage": lambda case: advantages_by(case, "group_length_weighted"),
    "compute_gpg_outcome_advantage": lambda case: advantages_by(
        case, "gpg", rescale="nonzero_scores", f_norm=case["args"]["f_norm"]
    ),
    "compute_reinforce_plus_plus_baseline_outcome_advantage": lambda case: advantages_by(
        case, "reinforce_plus_plus_baseline", whiten_epsilon=case["args"]["whiten_eps"]
    ),
}

# Those that return the rewards-to-go.
TO_GO = {
    "compute_reinforce_plus_plus_outcome_advantage": lambda case: advantages_by(
        case,
        "reinforce_plus_plus",
        gamma=case["args"]["gamma"],
        whiten_epsilon=case["args"]["whiten_eps"],
    ),
    "compute_remax_outcome_advantage": lambda case: advantages_by(case, "remax"),
    "compute_optimal_token_baseline_advantage": _optimal_token_baseline,
}


def advantages(case: dict) -> dict:
    function = function_of(case)
    if function == "compute_gae_advantage_return":
        return verl_gae(case)
    if function in TO_GO:
        given, gamma = arrays_of(case), case["args"].get("gamma", 1.0)
        returns = rewards_to_go(given["token_rewards"], given["mask"], gamma=gamma)
        return {"advantages": TO_GO[function](case), "returns": returns}
    values = lookup(OUTCOMES, function, "advantage")(case)
    return {"advantages": values, "returns": values}


def advantage_split(case: dict) -> dict:
    args = case["args"]
    values = advantages_by(
        case,
        "group_mean_sampled",
        divide_by_deviation=args["use_std"],
        advantage_epsilon=args["epsilon"] if args["use_std"] else None,
    )
    return {"advantages": values}
