"""Policy gradients on episodes of several players: what a sample of a role is compared with."""

from rljax.registry.method import Method
from rljax.registry.methods.shared import CLIPPED


def _row(name: str, paper: str, summary: str, **parts: object) -> Method:
    return Method(name, "policy_gradient", paper, summary, parts)


ROWS = (
    _row(
        "spiral",
        "arXiv:2506.24119",
        "self-play: the reward minus a moving average of the same role in the same game (RAE)",
        advantage="role_baseline",
        selection="with_advantage",
        **CLIPPED,
    ),
    _row(
        "hierarchical_grpo",
        "-",
        "the mean of the same role, in the episode for roles that it has several of (prime-rl)",
        advantage="role_group_mean",
        **CLIPPED,
    ),
    _row(
        "waltzrl",
        "arXiv:2510.08240",
        "two agents, each turn's own reward against the turns of its role (dynamic improvement)",
        segmentation="turns",
        advantage="role_turn_zscore",
        **CLIPPED,
    ),
)
