"""Policy gradients without a critic."""

from rljax.registry.method import Method

_ON_POLICY = dict(ratio="none", surrogate="policy_gradient", aggregation="sequence_mean_token_sum")
_CLIPPED = dict(ratio="token", surrogate="clipped")

ROWS = (
    Method(
        "reinforce",
        "policy_gradient",
        "Williams 1992",
        "reward minus a moving average of earlier batches",
        dict(advantage="ema", **_ON_POLICY),
    ),
    Method(
        "rloo",
        "policy_gradient",
        "arXiv:2402.14740",
        "leave-one-out baseline within the group",
        dict(advantage="group_leave_one_out", **_ON_POLICY),
    ),
    Method(
        "grpo",
        "policy_gradient",
        "arXiv:2402.03300",
        "group z-score, clipped token ratio, mean over sequences of token means, KL in the loss",
        dict(
            advantage="group_zscore",
            aggregation="sequence_mean_token_mean",
            kl_placement="loss",
            kl_estimator="k3",
            kl_weight=0.04,
            **_CLIPPED,
        ),
    ),
    Method(
        "dr_grpo",
        "policy_gradient",
        "arXiv:2503.20783",
        "no division by the group's deviation nor by the length, no KL",
        dict(advantage="group_mean", aggregation="sequence_mean_token_scale", **_CLIPPED),
    ),
    Method(
        "dapo",
        "policy_gradient",
        "arXiv:2503.14476",
        "the loss of DAPO: clip-higher, mean over all tokens, no KL",
        dict(advantage="group_zscore", aggregation="token_mean", clip_high=0.28, **_CLIPPED),
    ),
)
