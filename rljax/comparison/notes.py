"""What a reader must know before believing the table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rljax.comparison import statistics
from rljax.comparison.budget import Budget, is_spent
from rljax.comparison.results import Row, Tested, scores
from rljax.comparison.table import round_count


def notes(
    rows: Sequence[Row], tested: Sequence[Tested] = (), budget: Budget | None = None
) -> list[str]:
    """Budget, doubts, the chance of errors and the power of the verdicts, one sentence each."""
    found = [*_budget(rows, budget), *_doubts(rows)]
    if (tests := len(rows) - 1) > 0:
        found.append(_errors(tests, "verdict", f" against {_base(rows).runs.label}"))
        found += _power(rows, tests)
    if tested:
        found.append(_errors(len(tested), "claim"))
    if any(math.isnan(estimate.value) for row in rows for estimate in row.logged.values()):
        found.append("Logged metrics of runs that diverged are not finite and shown as a dash.")
    return found


def _base(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row.baseline)


def _budget(rows: Sequence[Row], budget: Budget | None) -> list[str]:
    """What every method could spend, and what it spent of what was not limited."""
    found = []
    if budget is not None:
        found.append(f"Budget of each seed of every method: {budget.words}.")
        less = [row.runs.label for row in rows if not is_spent(row.runs, budget)]
        if less:
            found.append(f"Ended before the budget was spent: {', '.join(less)}.")
    spreads = {
        "optimizer updates": [float(row.runs.updates[-1]) for row in rows],
        "tokens": [float(row.runs.tokens[:, -1].mean()) for row in rows],
    }
    for name, values in spreads.items():
        if min(values) > 0 and max(values) / min(values) > 1.2:
            low, high = (round_count(end) for end in (min(values), max(values)))
            found.append(f"The methods took between {low} and {high} {name} per seed.")
    return found


def _doubts(rows: Sequence[Row]) -> list[str]:
    found = []
    unpaired = [row.runs.label for row in rows if not row.baseline and not row.paired]
    if unpaired:
        found.append(
            f"Seeds other than the baseline's, hence differences between unpaired runs: "
            f"{', '.join(unpaired)}."
        )
    if any(row.reason for row in rows):
        doubtful = [row.runs.label for row in rows if row.reason]
        least = statistics.least_seeds(len(rows) - 1)
        found.append(
            f"No verdict, as chance alone would bring any result of so few seeds too often "
            f"({least} shared seeds are the least for {len(rows) - 1}): {', '.join(doubtful)}."
        )
    if any(len(row.runs.seeds) < 6 for row in rows):
        found.append("Fewer than 6 seeds have no interval.")
    return found


def _errors(tests: int, what: str, about: str = "") -> str:
    if tests == 1:
        return f"One {what}{about}: if nothing differed, it would be wrong in at most 5 % of cases."
    return (
        f"{tests} {what}s{about}, corrected for their number (Holm): if nothing differed, the "
        "chance that any of them is wrong would be at most 5 %."
    )


def _power(rows: Sequence[Row], tests: int) -> list[str]:
    """What difference these seeds can show."""
    base = _base(rows)
    paired = [row for row in rows if row.paired]
    if not paired:
        return []
    own = scores(base.runs, "accuracy")[np.argsort(base.runs.seeds)]
    deviations = [
        (scores(row.runs, "accuracy")[np.argsort(row.runs.seeds)] - own).std(ddof=1)
        for row in paired
        if len(own) > 1
    ]
    size = statistics.detectable(len(own), tests) if deviations else math.inf
    if math.isinf(size):
        return []
    spread = float(np.median(deviations))
    return [
        f"Power: {len(own)} seeds show a difference of {size * spread:.3f} with a chance of 80 % "
        f"(normal differences with a deviation of {spread:.3f}, the median of the methods)."
    ]
