"""Credit within a completion: by a critic, by macro actions, by samples from prefixes."""

from rljax.registry.method import Method
from rljax.registry.methods.shared import CLIPPED, K1_IN_REWARD, K3_IN_LOSS

_PPO = dict(value_target="lambda_returns", **CLIPPED)

# Of a policy and its guide (Learning to Generate Better Than Your LLM): IMDB's numbers.
_RLGF = dict(
    advantage="gae",
    gamma=0.99,
    whiten_advantages=False,
    value_lambda=0.95,
    value_clip=None,
    kl_weight=1e-3,
    **K1_IN_REWARD,
    **_PPO,
)


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


ROWS = (
    _row(
        "ppo",
        "arXiv:1707.06347",
        "a critic's GAE, whitened; KL in the reward",
        advantage="gae",
        reward_shaping="bounded_scores",
        value_lambda=0.95,
        value_clip=0.2,
        reward_clip=2.5,
        kl_weight=0.05,
        **K1_IN_REWARD,
        **_PPO,
    ),
    _row(
        "vc_ppo",
        "arXiv:2503.01491",
        "PPO whose critic learns from whole returns; give it warmup_updates",
        advantage="gae",
        value_lambda=1.0,
        **_PPO,
    ),
    _row(
        "vapo",
        "arXiv:2504.05118",
        "lambda by length, clip-higher, likelihood of right samples",
        advantage="gae_length_adaptive",
        value_lambda=1.0,
        clip_high=0.28,
        likelihood_weight=0.1,
        **_PPO,
    ),
    _row(
        "t_ppo",
        "arXiv:2506.15050",
        "a window of tokens a step teaches the policy, finished samples the critic",
        rollouts="windows",
        advantage="gae",
        truncation="hold",
        value_lambda=1.0,
        **_PPO,
    ),
    _row(
        "ppo_plus_plus",
        "arXiv:2306.11816",
        "PPO from prefixes that a guide policy wrote",
        rollouts="guide_roll_in",
        guide_share=0.6,
        **_RLGF,
    ),
    _row(
        "aggrevated",
        "arXiv:2306.11816",
        "the policy writes prefixes, and learns what a guide policy makes of them",
        rollouts="guide_roll_out",
        **_RLGF,
    ),
    _row(
        "lols",
        "arXiv:2306.11816",
        "PPO++ in four steps of five, AggreVaTeD in the others, a critic for each",
        rollouts="guide_alternating",
        **_RLGF,
    ),
    _row(
        "d2lols",
        "arXiv:2306.11816",
        "AggreVaTeD in the first steps, then PPO++, a critic for each",
        rollouts="guide_switching",
        **_RLGF,
    ),
    _row(
        "ma_rlhf",
        "arXiv:2410.02743",
        "GAE over macro actions of five tokens",
        segmentation="ngrams",
        advantage="macro_gae",
        value_target="macro_returns",
        reward_shaping="bounded_scores",
        value_clip=0.2,
        reward_clip=2.5,
        kl_weight=0.05,
        **K1_IN_REWARD,
        **CLIPPED,
    ),
    _row(
        "spo_chain",
        "arXiv:2505.23564",
        "values of segments between unlikely tokens, by samples from there",
        segmentation="uncertain",
        advantage="segment_difference",
        selection="uncertain",
        kl_weight=1e-4,
        **K3_IN_LOSS,
        **CLIPPED,
    ),
    _row(
        "spo_tree",
        "arXiv:2505.23564",
        "samples branch as a tree, whose nodes are worth the mean of what they lead to",
        rollouts="tree",
        advantage="segment_difference",
        selection="uncertain",
        kl_weight=1e-4,
        **K3_IN_LOSS,
        **CLIPPED,
    ),
    _row(
        "deepsearch",
        "arXiv:2509.25454",
        "trajectories of a Monte-Carlo tree search on hard problems; values of their pieces",
        rollouts="search",
        advantage="search_mean",
        aggregation="token_mean",
        clip_high=0.28,
        dual_clip=10.0,
        **CLIPPED,
    ),
    _row(
        "vineppo",
        "arXiv:2410.01679",
        "values of the steps of a solution, by samples from there",
        segmentation="steps",
        advantage="segment_difference",
        probability_threshold=None,
        fill_values=True,
        cut_limit=25,
        kl_weight=1e-4,
        **K3_IN_LOSS,
        **CLIPPED,
    ),
)
