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
)
