"""Policy gradients that read more of several rewards than their sum: constraints, or each alone."""

from rljax.registry.method import Method
from rljax.registry.methods.shared import (
    CLIPPED,
    GRPO,
    K1_IN_REWARD,
    K3_IN_LOSS,
    ON_POLICY,
    changed,
)

# PPO on the KL and each reward, mixed by multipliers.
_MULTIPLIED = dict(
    advantage="mixed_components",
    value_target="component_returns",
    gae_lambda=0.95,
    kl_weight=0.2,
    **K1_IN_REWARD,
    **CLIPPED,
)


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


ROWS = (
    _row(
        "crpg",
        "arXiv:2409.20370",
        "calibrated rewards, of what satisfies all constraints only, minus the batch's mean (CGPO)",
        advantage="calibrated_constrained",
        aggregation="sequence_mean_token_sum",
        **ON_POLICY,
    ),
    _row(
        "crraft",
        "arXiv:2409.20370",
        "the likelihood of each prompt's best sample that satisfies all constraints (CGPO)",
        advantage="best_constrained",
        aggregation="sequence_mean_token_sum",
        **ON_POLICY,
    ),
    _row(
        "mu_ppo",
        "arXiv:2310.04373",
        "PPO that holds each reward at its threshold or above, by a weight that is learned",
        threshold_kind="at_least",
        **_MULTIPLIED,
    ),
    _row(
        "xi_ppo",
        "arXiv:2310.04373",
        "the same at its threshold, so that a reward beyond it is pushed down",
        threshold_kind="equal",
        **_MULTIPLIED,
    ),
    _row(
        "grpo_components",
        "-",
        "GRPO on several rewards, each normalised by itself before they are weighted",
        kl_weight=0.04,
        **K3_IN_LOSS,
        **changed(GRPO, advantage="component_zscore"),
    ),
    _row(
        "grpo_gradient_weighted",
        "arXiv:2509.11452",
        "GRPO on several rewards whose weights follow what their gradients do for each other",
        reward_shaping="gradient_weighted",
        kl_weight=1e-3,
        **K3_IN_LOSS,
        **GRPO,
    ),
    _row(
        "recap",
        "arXiv:2510.21978",
        "GRPO on rewards of several domains, weighed by how each is still learned (RECAP)",
        **changed(GRPO, advantage="reweighted_components"),
    ),
    _row(
        "rloo_hypervolume",
        "arXiv:2509.11452",
        "RLOO whose rewards count more after a step that reached what no earlier one did",
        advantage="group_leave_one_out",
        reward_shaping="hypervolume",
        aggregation="sequence_mean_token_sum",
        **ON_POLICY,
    ),
)
