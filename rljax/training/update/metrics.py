"""From sums to what is logged, in the host loop and on the device alike."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from rljax.objectives.metrics import Metric, Number
from rljax.objectives.values import explained_variance

# Sums of a critic's loss that its explained variance is made of.
OF_CRITIC = ("return", "return_square", "value_error", "value_residual")


def step_numbers(metrics: Mapping[str, Metric]) -> dict[str, Number]:
    """The numbers of a step, once its sums have been added up over its updates.

    Args:
        metrics: sums by name, each a JAX array in a compiled program or a NumPy array on the host.

    Returns:
        [] each: what every metric makes of its sums (objectives/metrics.py), NaN where nothing was
        counted; `explained_variance` with a critic; and `updates_skipped` as a number of events.
    """
    made: dict[str, Number] = {}
    for name, metric in metrics.items():
        made |= metric.numbers(name)
    if metrics.keys() >= set(OF_CRITIC):
        made["explained_variance"] = explained_variance(metrics)
    for name in metrics:
        if name.endswith("updates_skipped"):
            made[name] = metrics[name].total
    return made


def mean_metrics(updates: Sequence[Mapping[str, Metric]]) -> dict[str, float]:
    """Adds sums over the updates of a step, in float64, and makes numbers of them once.

    A step without an update has none.
    """
    if not updates:
        return {}
    total = jax.tree.map(_add, *updates)
    return {name: float(number) for name, number in step_numbers(total).items()}


def _add(*parts: np.ndarray) -> np.ndarray:
    return np.sum(parts, axis=0, dtype=np.float64)
