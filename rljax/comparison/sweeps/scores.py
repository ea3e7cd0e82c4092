"""What the cells of a sweep have found so far, by condition."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.comparison import statistics
from rljax.comparison.runs import file_stem, load
from rljax.comparison.statistics import Estimate
from rljax.comparison.sweeps.cells import Cell
from rljax.comparison.sweeps.folder import DONE, FOUND, End, Plan, states, workdir_of
from rljax.errors import unknown_name
from rljax.reporting.run_data import Curve, Stage, read_stages

TAIL = 0.1  # of the steps: training metrics are noisy, and their mean over these counts
KINDS = ("heldout", "train")


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """Cells that differ in nothing but the seed.

    Attributes:
        name: of it.
        values: field -> what it is there; fields that other cells set are missing.
        seeds: of its cells.
        ends: how each of these has ended.
        curves: KIND/NAME -> per seed its curve, or None where it has not logged that.
    """

    name: str
    values: Mapping[str, Any]
    seeds: tuple[int, ...]
    ends: tuple[End, ...]
    curves: Mapping[str, tuple[Curve | None, ...]]

    @property
    def complete(self) -> bool:
        """Whether all of its cells are done."""
        return all(end.state == DONE for end in self.ends)

    def scores(self, metric: str, step: int | None = None) -> np.ndarray:
        """[S] f64, the metric of each seed at a step, or at the end; NaN where there is none."""
        curves = self.curves.get(metric, (None,) * len(self.seeds))
        return np.array([value_of(metric, curve, step) for curve in curves])

    def estimate(self, metric: str, step: int | None = None) -> Estimate:
        """The median over the seeds that have a value, with its interval."""
        scores = self.scores(metric, step)
        known = scores[np.isfinite(scores)]
        return statistics.median(known) if len(known) else Estimate(math.nan, math.nan, math.nan)


def value_of(metric: str, curve: Curve | None, step: int | None = None) -> float:
    """A curve as one number.

    Held out: the last value at or before a step. While training: the mean over the last tenth of
    the steps until then, at least one.
    """
    if curve is None:
        return math.nan
    values = curve.values if step is None else curve.values[curve.steps <= step]
    if not len(values):
        return math.nan
    count = max(1, round(TAIL * len(values))) if metric.startswith("train/") else 1
    return float(values[-count:].mean())


def curves_of(workdir: Path, stage: str) -> dict[str, Curve]:
    """KIND/NAME -> the curve of a stage of a cell."""
    found = read_stages(workdir).get(stage, Stage({}, {}, {}))
    return {
        f"{kind}/{name}": curve for kind in KINDS for name, curve in getattr(found, kind).items()
    }


def read_conditions(folder: Path, plan: Plan) -> list[Condition]:
    """The conditions of a sweep whose cells are runs with workdirs.

    Args:
        folder: of the sweep.
        plan: of it.
    """
    ends = states(folder, plan.cells)
    groups: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault(cell.condition, []).append(cell)
    if plan.vmapped:
        return [_vmapped(folder, name, cells, ends) for name, cells in groups.items()]
    return [_condition(folder, name, cells, ends, plan.stage) for name, cells in groups.items()]


def _condition(
    folder: Path, name: str, cells: Sequence[Cell], ends: Mapping[str, End], stage: str
) -> Condition:
    found = [curves_of(workdir_of(folder, cell), stage) for cell in cells]
    metrics = dict.fromkeys(metric for curves in found for metric in curves)
    return Condition(
        name,
        cells[0].values,
        tuple(cell.seed for cell in cells),
        tuple(ends[cell.name] for cell in cells),
        {metric: tuple(curves.get(metric) for curves in found) for metric in metrics},
    )


def _vmapped(folder: Path, name: str, cells: Sequence[Cell], ends: Mapping[str, End]) -> Condition:
    """A condition that ran as a part of one program."""
    path = folder / FOUND / f"{file_stem(name)}.json"
    curves: dict[str, tuple[Curve | None, ...]] = {}
    if path.exists():
        runs = load(path)
        order = [runs.seeds.tolist().index(cell.seed) for cell in cells]
        logged = {"reward": runs.reward, **runs.metrics}
        found = {"heldout/accuracy_greedy": (runs.steps, runs.accuracy)}
        found |= {f"train/{metric}": (runs.metric_steps, rows) for metric, rows in logged.items()}
        curves = {
            metric: tuple(Curve(steps, rows[index]) for index in order)
            for metric, (steps, rows) in found.items()
        }
    return Condition(
        name,
        cells[0].values,
        tuple(cell.seed for cell in cells),
        tuple(ends[cell.name] for cell in cells),
        curves,
    )


def metrics_of(conditions: Sequence[Condition]) -> list[str]:
    """All metrics that any cell has logged, held-out ones first."""
    found = dict.fromkeys(metric for each in conditions for metric in each.curves)
    return sorted(found, key=lambda metric: (not metric.startswith("heldout/"), metric))


def check_metric(metric: str, conditions: Sequence[Condition]) -> None:
    """Raises ValueError for a metric that no cell has logged, though some have logged others."""
    known = metrics_of(conditions)
    if known and metric not in known:
        raise unknown_name("metric", metric, known, "--metric")


def ranked(conditions: Sequence[Condition], metric: str) -> list[Condition]:
    """The best first: complete ones, then the others, each by the median of the metric."""

    def key(each: Condition) -> tuple[bool, float]:
        value = each.estimate(metric).value
        return not each.complete, math.inf if math.isnan(value) else -value

    return sorted(conditions, key=key)
