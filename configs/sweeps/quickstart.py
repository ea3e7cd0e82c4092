"""A sweep of `launch/sweep.py` over the quickstart: two fields in a grid.

    python launch/sweep.py --config=configs/quickstart.py:smoke --seeds=2 --parallel=2 \
        --sweep=configs/sweeps/quickstart.py --workdir=runs/sweep
"""

from collections.abc import Iterator

from rljax.comparison.sweeps import grid


def sweep() -> Iterator[dict[str, object]]:
    """A cell for each combination; a weight goes along where there is a penalty to weigh."""
    rates, placements = (1e-4, 3e-4, 1e-3, 3e-3), ("none", "loss")
    for cell in grid(
        {"grpo.optimizer.learning_rate": rates, "grpo.objective.kl_placement": placements}
    ):
        if cell["grpo.objective.kl_placement"] == "loss":
            cell["grpo.objective.kl_weight"] = 0.05
        yield cell
