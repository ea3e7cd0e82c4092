"""Median curves over seeds with their bands, ready to be drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rljax.comparison.budget import spent
from rljax.comparison.palette import INK, OTHERS
from rljax.comparison.results import Row
from rljax.comparison.runs import MethodRuns
from rljax.comparison.statistics import Band, median_band
from rljax.reporting import svg

MAX_POINTS = {"accuracy": 200, "logged": 100}  # of one curve


@dataclasses.dataclass(frozen=True, eq=False)
class BandCurve:
    """One method's curve: `across` [K] is where, `band` what, `colour` one of the palette."""

    name: str
    across: np.ndarray
    band: Band
    colour: int

    @property
    def dashed(self) -> bool:
        return self.colour == INK


def colours(rows: Sequence[Row]) -> dict[str, int]:
    """Label -> colour: the ink for the baseline, the others in the order of their labels.

    Not in the order of the rows, so that a method keeps its colour from one table to the next.
    With more methods than colours, these repeat: draw small multiples then.
    """
    others = sorted(row.runs.label for row in rows if not row.baseline)
    found = {label: index % OTHERS for index, label in enumerate(others)}
    return found | {row.runs.label: INK for row in rows if row.baseline}


def accuracy_curve(runs: MethodRuns, colour: int, *, across: str = "step") -> BandCurve:
    """Held-out accuracy over steps, or over what was spent so far (budget.py; mean over seeds)."""
    at = svg.spread_indices(len(runs.steps), MAX_POINTS["accuracy"])
    places = runs.steps if across == "step" else spent(runs, across).mean(0).round(1)
    return BandCurve(runs.label, places[at], median_band(runs.accuracy[:, at]), colour)


def logged_curve(runs: MethodRuns, name: str, colour: int) -> BandCurve:
    """The reward or another logged metric over steps; every seed's curve is smoothed first."""
    values = runs.reward if name == "reward" else runs.metrics[name]
    at = svg.spread_indices(len(runs.metric_steps), MAX_POINTS["logged"])
    smoothed = np.array([svg.smooth(curve) for curve in values])[:, at]
    return BandCurve(runs.label, runs.metric_steps[at], median_band(smoothed), colour)


def shared_axes(curves: Sequence[BandCurve], *, share: bool) -> svg.Axes:
    """Axes that hold all curves and their bands, except a few outliers."""
    values = np.concatenate([edge for curve in curves for edge in curve.band])
    places = np.concatenate([curve.across for curve in curves])
    return svg.Axes(
        (float(places.min()), float(places.max())), svg.value_range(values, share=share)
    )
