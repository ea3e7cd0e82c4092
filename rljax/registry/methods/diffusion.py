"""Policy gradients of masked diffusion models, on bounds of a sample's likelihood.

Where these rows differ from the authors' code, in all of them: noise levels are drawn for each
sample and each update, by its own key, not once for a batch; aggregations are over the whole
update, not over one group at a time; what counts of a sample ends with its end token, where ESPO
counts the end tokens behind it too. Paper and code leave open what BGPO, UniGRPO and coupled-GRPO
show behind the end: here mask tokens, as the sampler saw them. The clip range and the weight of the
KL of unigrpo are GRPO's, as its own were not seen.

GDPO's paper has the ratio of whole samples (ratio=sequence_sum) and the weight 1 / t (masking=
quadrature_time); the row has the ratio per token, as the pull request that trains with it, and the
weight n / k, which sums to 1 at any length. TraceRL is that of networks whose attention has no
blocks, normalised as the authors' form with blocks is: by a constant, and here over samples, where
they average over the passes of all samples. What the sampler had filled behind the end is shown as
masks. The head of its critic has a bias, and its loss is a mean over tokens. A value is read at the
open slot of its token, in models too whose logits are read one slot before.
"""

from rljax.registry.method import Method
from rljax.registry.methods.shared import CLIPPED, K3_IN_LOSS

# What the sampler saw of a canvas when it filled it: masks behind the end too.
_ELBO = dict(likelihood="elbo", open_canvas=True)
# One pass with the whole completion hidden, as if each token were the first to be filled.
_ONE_STEP = dict(masking="full", context_mask_rate=0.15, **_ELBO)

# Each token in the context in which the sampler filled it.
_TRAJECTORY = dict(
    ratio="token",
    surrogate="clipped_old_kl",
    old_kl_weight=0.01,
    aggregation="sequence_mean_token_scale",
    masking="trajectory",
    mask_draws=64,
    trajectory_shrink=1,
    **_ELBO,
)


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


ROWS = (
    _row(
        "spg",
        "arXiv:2510.09541",
        "SPG: a lower bound of good samples up, a mixture with an upper bound of bad ones down",
        advantage="group_mean",
        ratio="none",
        surrogate="sandwich",
        negative_bound="mixture",
        upper_power=1.5,
        upper_weight=0.5,
        masking="block",
        mask_draws=2,
        context_mask_rate=0.15,
        **_ELBO,
    ),
    _row(
        "bgpo",
        "arXiv:2510.11683",
        "BGPO: a lower bound of the likelihood-ratio objective that is a sum over draws of masks",
        advantage="group_zscore",
        ratio="none",
        surrogate="boundary",
        boundary_terms="both",
        aggregation="sequence_mean_token_mean",
        masking="bernoulli",
        mask_draws=16,
        **_ELBO,
    ),
    _row(
        "diffu_grpo",
        "arXiv:2504.12216",
        "d1: clipped token ratios of one pass with the whole completion hidden, KL in the loss",
        advantage="group_mean",
        clip_low=0.5,
        clip_high=0.5,
        kl_weight=0.04,
        **CLIPPED,
        **K3_IN_LOSS,
        **_ONE_STEP,
    ),
    _row(
        "wd1",
        "arXiv:2507.08838",
        "likelihood weighted by a softmax over the group for good samples, and against bad ones",
        advantage="group_softmax",
        ratio="none",
        surrogate="policy_gradient",
        aggregation="sequence_mean_token_sum",
        softmax_scale=1.0,
        **_ONE_STEP,
    ),
    _row(
        "unigrpo",
        "arXiv:2505.15809",
        "GRPO on the hidden tokens alone, whose share grows from update to update of a step",
        advantage="group_zscore",
        aggregation="sequence_mean_token_mean",
        kl_weight=0.04,
        masking="schedule",
        mask_steps=128,
        plain_logprobs=True,
        **CLIPPED,
        **K3_IN_LOSS,
        **_ELBO,
    ),
    _row(
        "coupled_grpo",
        "arXiv:2506.20639",
        "clipped token ratios of a full mask, a random one and its complement (DiffuCoder)",
        advantage="group_leave_one_out",
        clip_low=0.5,
        clip_high=0.5,
        kl_weight=0.01,
        masking="coupled",
        mask_share_low=0.2,
        mask_share_high=0.8,
        **CLIPPED,
        **K3_IN_LOSS,
        **_ELBO,
    ),
    _row(
        "espo",
        "arXiv:2512.03759",
        "GSPO with the bound as log-likelihood: one clipped ratio for each sample, squared KL",
        advantage="group_mean",
        ratio="sequence",
        surrogate="clipped",
        aggregation="sequence_mean_token_mean",
        kl_placement="loss",
        kl_estimator="k2_sequence",
        kl_weight=1e-2,
        masking="complementary",
        mask_draws=2,
        **_ELBO,
    ),
    _row(
        "gdpo",
        "arXiv:2510.08554",
        "GSPO with a bound at fixed noise levels, the nodes of a quadrature (GDPO of diffusion)",
        advantage="group_mean",
        ratio="sequence",
        surrogate="clipped",
        aggregation="sequence_mean_token_mean",
        clip_low=0.5,
        clip_high=0.5,
        masking="quadrature",
        mask_draws=3,
        **_ELBO,
    ),
    _row(
        "tracerl",
        "arXiv:2509.06949",
        "clipped token ratios, each token in the context in which the sampler filled it (TraceRL)",
        advantage="group_zscore",
        **_TRAJECTORY,
    ),
    _row(
        "tracerl_value",
        "arXiv:2509.06949",
        "TraceRL with a critic of the sampler's steps, GAE over them",
        segmentation="trajectory",
        advantage="trajectory_gae",
        value_target="trajectory_returns",
        gamma=1.0,
        gae_lambda=1.0,
        value_clip=0.2,
        **_TRAJECTORY,
    ),
)
