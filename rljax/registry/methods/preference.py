"""Learning from pairs."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "dpo",
        "preference",
        "arXiv:2305.18290",
        "logistic loss on the margin of log-ratios to the reference",
        dict(score="log_ratio", link="logistic", beta=0.1),
    ),
)
