"""Policy gradients without a critic: how each token counts, by ratio, entropy or covariance."""

from rljax.registry.method import Method
from rljax.registry.methods.shared import CLIPPED, DAPO, GRPO, ON_POLICY, changed

_ZSCORE = dict(advantage="group_zscore", ratio="token")
_GSPO = dict(clip_low=3e-4, clip_high=4e-4, **changed(GRPO, ratio="sequence"))
_DISCO = dict(advantage="none", ratio="token", surrogate="disco", aggregation="token_sum")


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


ROWS = (
    _row(
        "gspo",
        "arXiv:2507.18071",
        "ratio of the whole sequence, its geometric mean over tokens; also GSPO-token, where "
        "advantages differ within a sequence",
        **_GSPO,
    ),
    _row(
        "luspo",
        "TRL luspo",
        "GSPO with a sum over tokens",
        **changed(_GSPO, aggregation="sequence_mean_token_sum"),
    ),
    _row(
        "cispo",
        "arXiv:2506.13585",
        "the clipped ratio as a constant weight: no token loses its gradient",
        surrogate="cispo",
        **_ZSCORE,
    ),
    _row(
        "sapo",
        "arXiv:2511.20347",
        "a soft gate in place of the clip",
        surrogate="sapo",
        aggregation="sequence_mean_token_mean",
        **_ZSCORE,
    ),
    _row(
        "gmpo",
        "arXiv:2507.20673",
        "geometric mean of clipped token ratios",
        surrogate="geometric_mean",
        aggregation="sequence_mean_token_mean",
        **_ZSCORE,
    ),
    _row(
        "vespo",
        "arXiv:2602.10693",
        "a smooth weight of the whole sequence's ratio",
        surrogate="vespo",
        **_ZSCORE,
    ),
    _row(
        "dppo_tv",
        "arXiv:2602.04879",
        "trust region on the difference of probabilities",
        surrogate="dppo_tv",
        **_ZSCORE,
    ),
    _row(
        "dppo_kl",
        "arXiv:2602.04879",
        "trust region on the KL of taken token against the rest",
        surrogate="dppo_kl",
        **_ZSCORE,
    ),
    _row(
        "dro",
        "arXiv:2405.19107",
        "a quadratic penalty on the log-ratio",
        surrogate="dro",
        **_ZSCORE,
    ),
    _row(
        "clip_cov",
        "arXiv:2505.22617",
        "a few tokens of high covariance of advantage and log-probability are left out",
        advantage="group_zscore",
        token_weight="clip_cov",
        **CLIPPED,
    ),
    _row(
        "kl_cov",
        "arXiv:2505.22617",
        "the tokens of highest covariance are held near the old policy; nothing is clipped",
        surrogate="kl_cov",
        **_ZSCORE,
    ),
    _row(
        "steer",
        "arXiv:2510.10150",
        "less weight for tokens that would change the entropy most",
        token_weight="steer_linear",
        dual_clip=10.0,
        **DAPO,
    ),
    _row(
        "lp_reg",
        "arXiv:2510.03222",
        "rare but plausible tokens that are punished are held at the policy without its noise",
        surrogate="lp_reg",
        **_ZSCORE,
    ),
    _row(
        "hapo",
        "arXiv:2509.16591",
        "temperature, advantage and clip of each token by its entropy",
        sampling_temperature="by_entropy",
        advantage="group_token_zscore",
        group_filter="mixed",
        ratio="token",
        surrogate="hapo",
    ),
    _row(
        "top_entropy",
        "arXiv:2506.01939",
        "DAPO's loss on the fifth of tokens with the highest entropy",
        selection="top_entropy",
        **DAPO,
    ),
    _row(
        "d3s",
        "arXiv:2509.22115",
        "samples whose advantages vary most, and of their tokens those of high |A| x entropy",
        selection="d3s",
        **GRPO,
    ),
    _row(
        "disco",
        "arXiv:2505.12366",
        "right samples scored above wrong ones, hard ones most; a hinge on the KL",
        disco_temperature=10.0,
        **_DISCO,
    ),
    _row(
        "disco_b",
        "arXiv:2505.12366",
        "DisCO with equal weights of wrong samples",
        disco_temperature=None,
        **_DISCO,
    ),
    _row(
        "disco_ratio",
        "arXiv:2505.12366",
        "DisCO on likelihood ratios",
        disco_score="ratio",
        disco_temperature=1.0,
        **_DISCO,
    ),
    _row(
        "opd",
        "Thinking Machines, On-Policy Distillation",
        "on-policy distillation: a teacher's log-ratio of each sampled token is its advantage",
        advantage="none",
        teacher="log_ratio",
        reward_weight=0.0,
        teacher_weight=1.0,
        **ON_POLICY,
    ),
)
