"""Policy gradients that choose their problems, or how often these are sampled."""

from rljax.registry.method import Method
from rljax.registry.methods.shared import CLIPPED, GRPO, K3_IN_LOSS, ON_POLICY

_ACCEPTED = dict(
    allocation="by_variance", kl_placement="loss", kl_estimator="k3", kl_weight=1e-3, dual_clip=3.0
)


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


_ADA = dict(
    allocation="successive",
    advantage="pool_mean",
    aggregation="token_mean",
    clip_high=0.28,
    **CLIPPED,
)

ROWS = (
    _row(
        "pcl",
        "arXiv:2510.01135",
        "problems that a value model expects to be solved half the time; group mean, on-policy",
        curriculum="pcl",
        value_target="prompt_mean",
        value_clip=None,
        advantage="group_mean",
        aggregation="sequence_mean_token_mean",
        **ON_POLICY,
    ),
    _row(
        "vade",
        "arXiv:2511.18902",
        "GRPO on problems of the largest gain under a drawn success rate",
        curriculum="vade",
        **GRPO,
    ),
    _row(
        "gain_rl",
        "arXiv:2506.02281",
        "GRPO on a window that slides over problems ranked by the angles of their tokens",
        curriculum="gain",
        kl_weight=0.005,
        **K3_IN_LOSS,
        **GRPO,
    ),
    _row(
        "dump",
        "arXiv:2504.09710",
        "GRPO on sources that a bandit chooses by the size of advantages",
        curriculum="dump",
        kl_weight=1e-3,
        **K3_IN_LOSS,
        **GRPO,
    ),
    _row(
        "greso",
        "arXiv:2506.02177",
        "dynamic sampling that skips problems without signal in their last epochs",
        curriculum="greso",
        group_filter="mixed",
        clip_high=0.28,
        **GRPO,
    ),
    _row(
        "grpo_without_ties",
        "-",
        "GRPO on groups whose scores differ; no other ones are sampled in place of the rest",
        group_filter="with_signal",
        filter_rounds=1,
        kl_weight=0.04,
        **K3_IN_LOSS,
        **GRPO,
    ),
    _row(
        "balanced_filter",
        "arXiv:2504.03380",
        "GRPO on groups whose share of right samples lies inside of bounds, refilled",
        group_filter="accuracy_inside",
        **GRPO,
    ),
    _row(
        "reinforce_ada",
        "arXiv:2510.04996",
        "rounds of samples until a prompt has half a group of each kind; against its whole pool",
        **_ADA,
    ),
    _row(
        "reinforce_ada_positive",
        "arXiv:2510.04996",
        "rounds of samples until a prompt has a right one; against its whole pool",
        allocation_exit="positive",
        **_ADA,
    ),
    _row(
        "gvm_raft_plus_plus",
        "arXiv:2505.02391",
        "RAFT++ with more samples of problems whose gradient varies more",
        advantage="none",
        advantage_sign="positive",
        **_ACCEPTED,
        **CLIPPED,
    ),
    _row(
        "gvm_grpo",
        "arXiv:2505.02391",
        "GRPO with more samples of problems whose gradient varies more",
        **{**GRPO, **_ACCEPTED},
    ),
    _row(
        "speed",
        "arXiv:2506.09016",
        "dynamic sampling by a few samples, then the others; withdrawn by its authors",
        allocation="screening",
        group_filter="mixed",
        advantage="group_leave_one_out",
        **CLIPPED,
    ),
)
