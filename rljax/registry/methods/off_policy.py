"""Samples that the policy did not draw itself: stale, imprecise, or a demonstration."""

from rljax.registry.method import Method
from rljax.registry.methods.shared import CLIPPED, GRPO

_BEHAVIOR = dict(denominator="behavior", ratio="token")


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


ROWS = (
    _row(
        "tis",
        "verl rollout correction",
        "GRPO with truncated importance weights, trainer against sampler, token by token",
        correction="truncated",
        **GRPO,
    ),
    _row(
        "mis",
        "verl rollout correction",
        "GRPO with truncated weights of sequences; those that differ too much are masked",
        correction="truncated",
        correction_level="sequence",
        rejection="sequences",
        reject_sequence_statistic="k1",
        reject_sequence_reduction="sum",
        reject_sequence_low=0.5,
        reject_sequence_high=2.0,
        **GRPO,
    ),
    _row(
        "icepop",
        "arXiv:2510.18855",
        "GRPO with importance weights, 0 for tokens on which trainer and sampler differ too much",
        correction="zeroed",
        correction_floor=0.5,
        correction_cap=5.0,
        **GRPO,
    ),
    _row(
        "geo_rs",
        "verl rollout correction",
        "GRPO without sequences whose ratio to the sampler is not close to 1 in the geometric mean",
        rejection="sequences",
        reject_sequence_statistic="k1",
        reject_sequence_reduction="mean",
        reject_sequence_low=0.999,
        reject_sequence_high=1.001,
        **GRPO,
    ),
    _row(
        "aipo",
        "arXiv:2505.24034",
        "LlamaRL: a truncated constant ratio against the sampler, group mean",
        advantage="group_mean",
        surrogate="cispo",
        clip_high=1.0,
        **_BEHAVIOR,
    ),
    _row(
        "pipeline_rl",
        "arXiv:2509.19128",
        "a truncated constant ratio against the sampler, leave-one-out, sum over tokens",
        advantage="group_leave_one_out",
        surrogate="cispo",
        clip_high=4.0,
        aggregation="sequence_mean_token_sum",
        **_BEHAVIOR,
    ),
    _row(
        "areal",
        "arXiv:2505.24298",
        "decoupled PPO: clip against the old policy, weight of old against sampler",
        advantage="reinforce_plus_plus",
        correction="zeroed",
        correction_cap=5.0,
        **CLIPPED,
    ),
    _row(
        "prime_rl",
        "arXiv:2505.07291",
        "tokens whose probability has moved too far in their direction are left out",
        advantage="group_mean",
        surrogate="probability_gap",
        **_BEHAVIOR,
    ),
    _row(
        "prime_rl_ipo",
        "arXiv:2505.07291",
        "tokens whose probability has moved too far in any direction are left out",
        advantage="group_mean",
        surrogate="probability_gap_both",
        **_BEHAVIOR,
    ),
    _row(
        "m2po",
        "AReaL M2PO",
        "GRPO without the tokens whose sampler is furthest off",
        selection="second_moment",
        **GRPO,
    ),
    _row(
        "hpt",
        "arXiv:2509.04419",
        "a demonstration in place of the samples of a prompt that is not solved",
        advantage="group_mean",
        ratio="token",
        surrogate="unclipped",
        aggregation="sequence_mean_token_scale",
        demonstrations="switch",
        entropy_weight=1e-3,
    ),
    _row(
        "luffy",
        "arXiv:2504.14945",
        "a demonstration among the samples of each prompt, its likelihood shaped",
        advantage="group_mean",
        ratio="token",
        surrogate="unclipped",
        aggregation="sequence_mean_token_scale",
        demonstrations="in_group",
    ),
    _row(
        "guide_grpo",
        "arXiv:2506.13923",
        "GRPO with samples behind a hint where a prompt is not solved, against the hinted policy",
        demonstrations="guided",
        **GRPO,
    ),
    _row(
        "scaf_grpo",
        "arXiv:2510.19807",
        "GRPO with one sample behind the smallest hint that helps where a prompt is not solved",
        demonstrations="scaffolded",
        **GRPO,
    ),
)
