"""Slug bnpo: advantages divided by a Beta density."""

from golden_adapters.policy_gradient import advantage_part
from golden_adapters.verl_advantages import arrays_of
from rljax.objectives.advantages.bnpo import fitted_beta
from rljax.objectives.parts import apply


def bnpo(case: dict) -> dict:
    names = {"min_value": "reward_min", "max_value": "reward_max"}
    fields = {names[name]: value for name, value in case["args"].items()}
    given = arrays_of(case)
    arguments = (given["token_rewards"], given["mask"], given["group_ids"])
    alpha, beta = fitted_beta(*arguments, **fields)
    advantages = apply(advantage_part("bnpo", **fields), given)
    return {"advantages": advantages, "alpha": alpha, "beta": beta}
