"""Differences to the baseline with their intervals, one method a line around a line at zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from rljax.comparison.results import Row
from rljax.comparison.table import interval
from rljax.reporting import svg

WIDTH, LINE, TOP = 640, 24, 8
NAMES, VALUES = 190, 400  # where the names end; where the drawing does and values begin


def forest(rows: Sequence[Row], colour: Mapping[str, int]) -> str:
    """The SVG text, rows in their order and the baseline left out; "" when it is alone.

    Args:
        rows: the methods.
        colour: label -> colour of the palette.
    """
    shown = [row for row in rows if row.difference is not None]
    if not shown:
        return ""
    edges = [0.0, *(v for row in shown for v in row.difference if math.isfinite(v))]
    # All of them, unlike in a chart of curves: an outlier here is a finding.
    margin = 0.06 * (max(edges) - min(edges)) or 0.01
    low, high = min(edges) - margin, max(edges) + margin

    def x(value: float) -> float:
        return NAMES + 10 + (value - low) / (high - low) * (VALUES - NAMES - 20)

    bottom = TOP + LINE * len(shown)
    marks = svg.ticks(low, high, 4)
    pitch = marks[1] - marks[0] if len(marks) > 1 else max(abs(high), 1e-12)
    parts = [f'<path class="zero" d="M{x(0):.1f} {TOP}V{bottom}"/>']
    for mark in marks:
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x(mark):.1f}" y="{bottom + 16}">'
            f"{svg.tick_label(mark, pitch)}</text>"
        )
    for index, row in enumerate(shown):
        y = TOP + LINE * (index + 0.5)
        found, label = row.difference, row.runs.label
        parts.append(
            f'<text class="name" text-anchor="end" x="{NAMES - 6}" y="{y + 4:.1f}">'
            f"{escape(_short(label))}</text>"
        )
        parts.append(f'<g class="c{colour[label]}">')
        if math.isfinite(found.low):
            d = f"M{x(found.low):.1f} {y}H{x(found.high):.1f}"
            parts.append(f'<path class="whisker" d="{d}"/>')
        parts.append(f'<circle class="dot" cx="{x(found.value):.1f}" cy="{y}" r="4.5"/></g>')
        parts.append(
            f'<text class="name" x="{VALUES + 10}" y="{y + 4:.1f}">'
            f"{escape(interval(found, signed=True))}</text>"
        )
    said = "; ".join(f"{row.runs.label} {interval(row.difference, signed=True)}" for row in shown)
    return (
        f'<svg viewBox="0 0 {WIDTH} {bottom + 22}" role="img" '
        f'aria-label="{escape("Difference to the baseline: " + said)}">{"".join(parts)}</svg>'
    )


def _short(label: str, limit: int = 28) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"
