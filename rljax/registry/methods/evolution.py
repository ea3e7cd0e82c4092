"""Learning from rewards without a gradient."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "eggroll",
        "evolution",
        "arXiv:2511.16652",
        "evolution strategies with low-rank noise: greedy answers of perturbed policies",
        dict(fitness="group_mean"),
    ),
)
