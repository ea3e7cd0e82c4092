"""A sweep of `launch/sweep.py --rule=pbt`: members that begin with learning rates far apart.

    python launch/sweep.py --config=configs/compare.py:sort/grpo --seeds=2 \
        --sweep=configs/sweeps/population.py --vmapped --rule=pbt --ready=20 --workdir=runs/pbt
"""

from collections.abc import Iterator

from rljax.comparison.sweeps import draws, log_uniform


def sweep() -> Iterator[dict[str, float]]:
    """Eight cells, drawn log-uniformly over three decades."""
    yield from draws(8, {"rl.optimizer.learning_rate": log_uniform(1e-5, 1e-2)}, seed=0)
