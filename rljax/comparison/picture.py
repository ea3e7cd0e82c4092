"""Learning curves with bands as SVG: charts for the page, and a picture that stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from scipy import optimize

from rljax.comparison import palette
from rljax.comparison.curves import (
    BandCurve,
    accuracy_curve,
    colours,
    shared_axes,
)
from rljax.comparison.results import Row
from rljax.reporting import svg
from rljax.reporting.progress import format_value

ONE_CHART = 8  # more methods than this get a panel each
COLUMNS = 4
HEADING, AXIS = 34, 20  # heights above and below a panel's box
LABEL_PITCH = 14.0
CONTEXT_POINTS = 40  # they occur in every panel, and only show where the others are
# Axes by name: what is written below them.
ACROSS = {
    "step": "step",
    "updates": "optimizer updates",
    "tokens": "generated tokens per seed",
    "seconds": "seconds per seed",
}


def band_path(axes: svg.Axes, curve: BandCurve) -> str:
    """The outline of the band: along its upper edge and back along the lower one, per stretch."""
    known = np.isfinite(curve.band.low) & np.isfinite(curve.band.high)
    parts = []
    # A gap ends one area and begins the next.
    breaks = np.flatnonzero(np.diff(known)) + 1
    for stretch in np.split(np.arange(len(known)), breaks):
        if not known[stretch[0]]:
            continue
        upper = svg.path_data(axes, curve.across[stretch], curve.band.high[stretch])
        back = stretch[::-1]
        lower = svg.path_data(axes, curve.across[back], curve.band.low[back])
        parts.append(f"{upper}{lower.replace('M', 'L', 1)}Z")
    return "".join(parts)


def draw_curve(axes: svg.Axes, curve: BandCurve) -> list[str]:
    """The band, the median on top of it, and a dot where there is a single point."""
    colour = f"c{curve.colour}"
    parts = []
    if area := band_path(axes, curve):
        parts.append(f'<path class="band {colour}" d="{area}"/>')
    dash = " dashed" if curve.dashed else ""
    d = svg.path_data(axes, curve.across, curve.band.middle)
    parts.append(f'<path class="line {colour}{dash}" d="{d}"/>')
    if len(curve.across) == 1 and math.isfinite(curve.band.middle[0]):
        x, y = axes.x(curve.across[0]), axes.y(curve.band.middle[0])
        parts.append(f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>')
    return parts


def panel(
    axes: svg.Axes, curves: Sequence[BandCurve], context: Sequence[BandCurve] = ()
) -> list[str]:
    """The frame and the curves; `context` are thin grey means behind them."""
    parts = [axes.frame(), '<g clip-path="url(#plot)">']
    for curve in context:
        at = svg.spread_indices(len(curve.across), CONTEXT_POINTS)
        d = svg.path_data(axes, curve.across[at], curve.band.middle[at])
        parts.append(f'<path class="context" d="{d}"/>')
    for curve in curves:
        parts += draw_curve(axes, curve)
    return [*parts, "</g>"]


def chart(
    curves: Sequence[BandCurve],
    axes: svg.Axes,
    label: str,
    *,
    across: str = "step",
    context: Sequence[BandCurve] = (),
) -> tuple[str, dict[str, Any], str]:
    """A chart for the page.

    Returns:
        The SVG text, the data of the hover read-out, and a note on values that are not drawn.
    """
    trends = "; ".join(f"{c.name} ends at {format_value(_last(c))}" for c in curves)
    drawing = (
        f'<svg viewBox="0 0 {svg.WIDTH} {svg.HEIGHT}" role="img" '
        f'aria-label="{escape(f"{label}: {trends}")}">'
        f"{''.join(panel(axes, curves, context))}</svg>"
    )
    lines = [_hover_line(axes, curve) for curve in curves]
    hover = {"first": axes.first, "last": axes.last, "unit": "", "across": across, "lines": lines}
    return drawing, hover, _note(axes, curves)


def _last(curve: BandCurve) -> float:
    return float(curve.band.middle[-1])


def _hover_line(axes: svg.Axes, curve: BandCurve) -> dict[str, Any]:
    ys = svg.clip_finite(axes.y(curve.band.middle), svg.TOP, svg.BOTTOM)
    points = zip(curve.band.middle, curve.band.low, curve.band.high, strict=True)
    return {
        "name": curve.name,
        "colour": curve.colour,
        "steps": curve.across.tolist(),
        # As text, since a value comes with its interval.
        "values": [_reading(float(mean), float(low), float(high)) for mean, low, high in points],
        "ys": [round(float(y), 1) if math.isfinite(y) else None for y in ys],
    }


def _reading(mean: float, low: float, high: float) -> str | None:
    if not math.isfinite(mean):
        return None
    ends = "" if math.isnan(low) else f" [{low:.4g}, {high:.4g}]"
    return f"{mean:.4g}{ends}".replace("-", "−")


def _note(axes: svg.Axes, curves: Sequence[BandCurve]) -> str:
    means = np.concatenate([curve.band.middle for curve in curves])
    finite = means[np.isfinite(means)]
    beyond = int(((finite < axes.low) | (finite > axes.high)).sum())
    notes = [f"{beyond} values beyond the axis"] if beyond else []
    notes += [f"{len(means) - len(finite)} values not finite"] if len(finite) < len(means) else []
    return ", ".join(notes)


def spread_labels(wanted: Sequence[float], low: float, high: float, pitch: float) -> np.ndarray:
    """[n] places at least `pitch` apart within [low, high], in all as near as can be to `wanted`.

    With k * pitch taken off the k-th from the top, "apart" means "in order": isotonic regression.
    """
    order = np.argsort(wanted, kind="stable")
    steps = pitch * np.arange(len(order))
    places = np.empty(len(order))
    level = optimize.isotonic_regression(np.asarray(wanted, np.float64)[order] - steps).x
    places[order] = np.clip(level, low, high - steps[-1]) + steps
    return places


def _direct_labels(axes: svg.Axes, curves: Sequence[BandCurve]) -> list[str]:
    ends = [float(svg.clip_finite(axes.y(_last(c)), svg.TOP, svg.BOTTOM)) for c in curves]
    ends = [end if math.isfinite(end) else float(svg.BOTTOM) for end in ends]
    parts = []
    places = spread_labels(ends, svg.TOP, svg.BOTTOM, LABEL_PITCH)
    for curve, end, place in zip(curves, ends, places, strict=True):
        x = float(axes.x(curve.across[-1]))
        d = f"M{x + 2:.1f} {end:.1f}L{svg.RIGHT + 14} {place:.1f}"
        parts.append(f'<path class="leader c{curve.colour}" d="{d}"/>')
        parts.append(
            f'<text class="label c{curve.colour}" x="{svg.RIGHT + 18}" y="{place + 4:.1f}">'
            f"{escape(curve.name)}</text>"
        )
    return parts


def _place(x: float, y: float, parts: Sequence[str], heading: str, across: str) -> str:
    centre = (svg.LEFT + svg.RIGHT) / 2
    return (
        f'<g transform="translate({x:g} {y + HEADING:g})">'
        f'<text class="heading" x="{svg.LEFT}" y="-8">{escape(heading)}</text>{"".join(parts)}'
        f'<text class="axis" text-anchor="middle" x="{centre:g}" y="{svg.HEIGHT + 10}">'
        f"{escape(across)}</text></g>"
    )


def axes_of(axis: str) -> tuple[str, str]:
    """The axes of two charts: that of the comparison, and generated tokens (or updates)."""
    return axis, "updates" if axis == "tokens" else "tokens"


def _overlaid(rows: Sequence[Row], axis: str) -> tuple[list[str], float, float]:
    """Two charts of all methods, over both axes."""
    colour = colours(rows)
    longest = max(len(row.runs.label) for row in rows)
    width = svg.RIGHT + 30 + 7.2 * longest
    panels = []
    for place, across in enumerate(axes_of(axis)):
        curves = [accuracy_curve(r.runs, colour[r.runs.label], across=across) for r in rows]
        axes = shared_axes(curves, share=True)
        parts = [*panel(axes, curves), *_direct_labels(axes, curves)]
        panels.append(
            _place(place * width, 0, parts, f"Held-out accuracy by {across}", ACROSS[across])
        )
    return panels, 2 * width, HEADING + svg.HEIGHT + AXIS


def multiples(rows: Sequence[Row], curves: Sequence[BandCurve]) -> list[list[BandCurve]]:
    """Per method what its panel shows in front: its own curve in colour 0 and the baseline's."""
    base = [c for c, row in zip(curves, rows, strict=True) if row.baseline]
    shown = []
    for curve, row in zip(curves, rows, strict=True):
        mine = BandCurve(curve.name, curve.across, curve.band, palette.INK if row.baseline else 0)
        shown.append([mine] if row.baseline else [*base, mine])
    return shown


def _multiplied(rows: Sequence[Row], axis: str) -> tuple[list[str], float, float]:
    """A panel per method on the same axes, the other methods' medians in grey behind."""
    colour = colours(rows)
    curves = [accuracy_curve(row.runs, colour[row.runs.label], across=axis) for row in rows]
    axes = shared_axes(curves, share=True)
    height = HEADING + svg.HEIGHT + AXIS
    panels = []
    for index, (row, shown) in enumerate(zip(rows, multiples(rows, curves), strict=True)):
        x, y = index % COLUMNS * (svg.WIDTH + 20), index // COLUMNS * height
        heading = row.runs.label + (" (baseline)" if row.baseline else "")
        panels.append(_place(x, y, panel(axes, shown, curves), heading, ACROSS[axis]))
    return panels, COLUMNS * (svg.WIDTH + 20), math.ceil(len(rows) / COLUMNS) * height


def picture(rows: Sequence[Row], axis: str = "step", *, both: bool = True) -> str:
    """curves.svg: held-out accuracy with 95 % bands, whole and by itself.

    Up to 8 methods share two charts, over the axis and over generated tokens, each curve named at
    its end. More get a panel each. Light or dark as the reader prefers.

    Args:
        rows: the methods, in the order of the panels.
        axis: a name of `ACROSS`.
        both: include the dark look; False for programs that read no media queries.
    """
    many = len(rows) > ONE_CHART
    panels, width, height = (_multiplied if many else _overlaid)(rows, axis)
    base = next(row.runs.label for row in rows if row.baseline)
    caption = f"Median over seeds, 95 % interval of the median shaded; dashed: {base} (baseline)"
    caption += "; grey: all methods" if many else ""
    label = f"Held-out accuracy of {', '.join(row.runs.label for row in rows)}. {caption}."
    box = (
        f'x="{svg.LEFT - 1}" y="{svg.TOP - 4}" width="{svg.RIGHT - svg.LEFT + 5}" '
        f'height="{svg.BOTTOM - svg.TOP + 8}"'
    )
    width, height = round(width) + 20, round(height) + 44
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(label)}">'
        f"<style>{palette.picture_style(both=both)}</style>"
        f'<defs><clipPath id="plot"><rect {box}/></clipPath></defs>'
        f'<rect class="paper" width="{width}" height="{height}"/>'
        f"<g>{''.join(panels)}</g>"
        f'<text class="axis" x="{svg.LEFT}" y="{height - 16}">{escape(caption)}</text></svg>\n'
    )


def png(rows: Sequence[Row], axis: str = "step") -> bytes | None:
    """curves.png: the light picture at twice its size; None without the package resvg_py.

    The text is set in the fonts of the system that it runs on.
    """
    try:
        import resvg_py
    except ImportError:
        return None
    return bytes(resvg_py.svg_to_bytes(svg_string=picture(rows, axis, both=False), zoom=2.0))
