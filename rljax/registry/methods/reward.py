"""Reward models."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "bradley_terry",
        "reward",
        "arXiv:2203.02155",
        "logistic loss on the difference of two scores",
        dict(reward_loss="bradley_terry"),
    ),
    Method(
        "rated_margin",
        "reward",
        "arXiv:2307.09288",
        "Bradley-Terry whose scores differ by the margin that a pair was rated with",
        dict(reward_loss="rated_margin"),
    ),
    Method(
        "goal_conditioned",
        "reward",
        "arXiv:2407.13887",
        "Bradley-Terry, and early states are drawn to good endings and away from bad ones",
        dict(reward_loss="bradley_terry", representation="goal_conditioned"),
    ),
    Method(
        "causal_reward",
        "reward",
        "arXiv:2501.09620",
        "Bradley-Terry whose representations are distributed alike whatever the length",
        dict(reward_loss="bradley_terry", representation="length_invariance"),
    ),
    Method(
        "binary_reward",
        "reward",
        "arXiv:2505.14946",
        "the probability that a completion is labelled good",
        dict(reward_loss="binary"),
    ),
    Method(
        "process_reward",
        "reward",
        "arXiv:2305.20050",
        "the probability that each step of an answer is right, at the end of the step",
        dict(reward_loss="step_binary"),
    ),
    Method(
        "generative_reward",
        "reward",
        "arXiv:2408.15240",
        "a language model says by its next token whether a completion is good",
        dict(reward_loss="verdict"),
    ),
    Method(
        "reward_regression",
        "reward",
        "arXiv:2311.09528",
        "squared distance of a completion's score to its rating",
        dict(reward_loss="regression"),
    ),
    Method(
        "all_pairs",
        "reward",
        "arXiv:2203.02155",
        "Bradley-Terry over all pairs of a prompt's ranked completions, a prompt counting once",
        dict(reward_loss="all_pairs"),
    ),
    Method(
        "plackett_luce",
        "reward",
        "Plackett, 1975",
        "the likelihood of the whole order of a prompt's ranked completions",
        dict(reward_loss="plackett_luce"),
    ),
)
