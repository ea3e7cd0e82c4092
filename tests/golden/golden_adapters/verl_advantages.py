"""Slug policy-gradient-advantages: advantages of verl."""

import jax.numpy as jnp

from golden_adapters.common import NotBuilt, bools, floats
from golden_adapters.policy_gradient import advantage_part, function_of


def _verl_advantage(case: dict):
    rewards, mask = floats(case, "token_level_rewards"), bools(case, "response_mask")
    groups, args = jnp.asarray(case["inputs"]["index"]), case["args"]
    function = function_of(case)
    if function in ("compute_grpo_outcome_advantage", "compute_grpo_vectorized_outcome_advantage"):
        if args["norm_adv_by_std_in_grpo"]:
            zscore = advantage_part("group_zscore", advantage_epsilon=args["epsilon"])
            return zscore(rewards, mask, groups)
        return advantage_part("group_mean")(rewards, mask, groups)
    leave_one_out = advantage_part("group_leave_one_out")(rewards, mask, groups)
    if function == "compute_rloo_vectorized_outcome_advantage":
        return leave_one_out
    if function == "compute_rloo_outcome_advantage":
        # The loop version hands a lone sample's score through, as our "none" does; our
        # leave-one-out follows the vectorised version, which gives it 0.
        alone = (groups[:, None] == groups).sum(axis=-1, keepdims=True) == 1
        return jnp.where(alone, advantage_part("none")(rewards, mask, groups), leave_one_out)
    raise NotBuilt(function)


def advantages(case: dict) -> dict:
    advantages = _verl_advantage(case)
    return {"advantages": advantages, "returns": advantages}
