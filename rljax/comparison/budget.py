"""What every method of a comparison may spend: updates, tokens or seconds, the same for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rljax.comparison.runs import MethodRuns
from rljax.errors import unknown_name

AXES = {"updates": "updates", "tokens": "tokens", "seconds": "s"}  # and their units
SLACK = 1e-9  # of an amount: sums of floats


@dataclasses.dataclass(frozen=True)
class Budget:
    """An amount of one of `AXES`, for each seed of each method."""

    axis: str
    amount: float

    @property
    def words(self) -> str:
        """Such as "300 updates"."""
        return (
            f"{self.amount:,.4g} {self.axis}"
            if self.amount < 1e4
            else (f"{self.amount:,.0f} {self.axis}")
        )


def parse_budget(text: str) -> tuple[str, float | None]:
    """AXIS, or AXIS:AMOUNT; without an amount it is what the baseline spends in its own steps.

    Raises:
        ValueError: for another axis, or an amount that is not above 0.
    """
    axis, colon, amount = text.partition(":")
    if axis not in AXES:
        raise unknown_name("budget", axis, AXES, "--budget")
    if not colon:
        return axis, None
    try:
        value = float(amount)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(
            f"The amount of a budget must be a number above 0, got {amount!r} "
            f"(--budget={axis}:AMOUNT)."
        )
    return axis, value


def spent(runs: MethodRuns, axis: str) -> np.ndarray:
    """[S, K] f64, what each seed had spent at each evaluation, in units of `AXES[axis]`."""
    each = {
        "updates": runs.updates,
        "tokens": runs.tokens,
        "seconds": runs.steps * runs.seconds_per_step,
    }[axis]
    return np.broadcast_to(np.asarray(each, np.float64), runs.accuracy.shape)


def spent_by_all(runs: Sequence[MethodRuns], axis: str) -> Budget:
    """As much of an axis as every seed of every method has spent."""
    return Budget(axis, min(float(spent(run, axis)[:, -1].min()) for run in runs))


def is_spent(runs: MethodRuns, budget: Budget) -> bool:
    """Whether every seed has spent its budget."""
    return bool((spent(runs, budget.axis)[:, -1] >= budget.amount * (1 - SLACK)).all())


def at_budget(runs: MethodRuns, budget: Budget) -> MethodRuns:
    """The runs up to their budget: the last evaluation is at just that amount.

    Where no evaluation is, one is made of those before and after it, along a line. Runs that ended
    before stay as they are.
    """
    paid = spent(runs, budget.axis)
    before = (paid <= budget.amount * (1 + SLACK)).all(axis=0)
    if before.all() or not before.any():
        return runs
    last = int(before.sum())  # amounts ascend
    exact = bool((paid[:, last - 1] >= budget.amount * (1 - SLACK)).all())

    def then(values: np.ndarray) -> np.ndarray:
        """[S] at the amount, of [S, K] or [K]."""
        values = np.broadcast_to(np.asarray(values, np.float64), paid.shape)
        pairs = zip(paid, values, strict=True)
        return np.array([np.interp(budget.amount, at, value) for at, value in pairs])

    def extended(values: np.ndarray, more: np.ndarray) -> np.ndarray:
        kept = values[..., :last]
        return kept if exact else np.concatenate([kept, more[..., None]], axis=-1)

    steps = extended(runs.steps, np.ceil(then(runs.steps).mean()).astype(np.int64))
    logged = runs.metric_steps <= max(int(steps[-1]), int(runs.metric_steps[0]))
    return dataclasses.replace(
        runs,
        steps=steps,
        accuracy=extended(runs.accuracy, then(runs.accuracy)),
        tokens=extended(runs.tokens, then(runs.tokens)),
        updates=extended(runs.updates, np.ceil(then(runs.updates).mean()).astype(np.int64)),
        metric_steps=runs.metric_steps[logged],
        reward=runs.reward[:, logged],
        metrics={name: values[:, logged] for name, values in runs.metrics.items()},
        seconds=runs.seconds_per_step * float(steps[-1]),
    )
