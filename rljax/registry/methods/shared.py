"""Parts that many rows of the policy-gradient family share."""

# The policy that sampled learns, once: no ratio.
ON_POLICY = dict(ratio="none", surrogate="policy_gradient")
# PPO's trust region, token by token.
CLIPPED = dict(ratio="token", surrogate="clipped")
GRPO = dict(advantage="group_zscore", aggregation="sequence_mean_token_mean", **CLIPPED)
# The loss of DAPO.
DAPO = dict(advantage="group_zscore", aggregation="token_mean", clip_high=0.28, **CLIPPED)
K3_IN_LOSS = dict(kl_placement="loss", kl_estimator="k3")
K1_IN_REWARD = dict(kl_placement="reward", kl_estimator="k1")


def changed(parts: dict, **changes: object) -> dict:
    """A row's parts with some of them replaced."""
    return {**parts, **changes}
