"""Slug t-ppo: GAE and value targets where rows were cut off."""

from golden_adapters.common import bools, floats
from golden_adapters.policy_gradient import advantage_part
from rljax.objectives.credit.gae import cut_off_rows
from rljax.objectives.values import lambda_returns


def t_ppo(case: dict) -> dict:
    args, mask, complete = case["args"], bools(case, "mask"), bools(case, "complete")
    rewards, values = floats(case, "rewards"), floats(case, "values")
    fields = dict(gamma=args["gamma"], gae_lambda=args["lam"], whiten_advantages=False)
    held, terminal = (
        advantage_part("gae", truncation=truncation, **fields)(rewards, values, mask, complete)
        for truncation in ("hold", "terminal")
    )
    targets, value_mask = lambda_returns(
        rewards, values, mask, complete, gamma=args["gamma"], truncation="hold"
    )
    return {
        "advantages": held,
        "advantages_if_all_treated_as_complete": terminal,
        "value_targets_lam1_complete_rows": targets,
        "policy_mask": cut_off_rows(values, mask, complete, "hold")[0],
        "value_mask": value_mask,
    }
