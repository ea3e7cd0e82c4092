"""Charts as SVG text: axes with round ticks, curves, stacked areas.

A chart is drawn in a fixed box of WIDTH x HEIGHT units and scaled by the page. Colours are CSS
classes (c0, c1, ...), so that the page's style sheet decides them for light and dark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT = 400, 212
LEFT, RIGHT, TOP, BOTTOM = 46, 392, 10, 186  # the plotting area
COLOURS = 8  # classes c0 ... c7; further series repeat them
MAX_POINTS = 500


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    steps: np.ndarray  # [n]
    values: np.ndarray  # [n]
    colour: int
    dashed: bool = False


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten) within [low, high]."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # Rounding takes 0.30000000000000004 back to 0.3.
    return [
        round(index * step, 12 - math.floor(math.log10(step))) for index in range(first, last + 1)
    ]


def tick_label(value: float, step: float) -> str:
    """A short label with no more decimals than the distance of two ticks needs."""
    size = max(abs(value), step)
    if value == 0:
        return "0"
    # As many digits as tell two ticks apart, such as those of a share just below 1.
    digits = math.floor(math.log10(size)) - math.floor(math.log10(step)) + (step < 1e-4)
    if size >= 1e6 or (step < 1e-4 and size < 1e-2):
        mantissa, exponent = f"{value:.{max(2, digits)}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if size >= 1e4:
        return f"{value / 1000:g}k"
    text = f"{value:.{max(0, 1 - math.floor(math.log10(step)))}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def smooth(values: np.ndarray) -> np.ndarray:
    """A centred running mean, taken twice, over about a 20th of the curve on either side.

    Centred, because a trailing mean lags behind a trend. Short curves stay as they are;
    non-finite values are left out of the mean and stay.
    """
    half = len(values) // 40
    if half < 1:
        return values.copy()
    finite = np.isfinite(values)
    out = np.where(finite, values, 0.0)
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    counts = np.concatenate([[0], np.cumsum(finite)])
    for _ in range(2):
        sums = np.concatenate([[0.0], np.cumsum(np.where(finite, out, 0.0))])
        out = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(finite, out, values)


def spread_indices(count: int, limit: int = MAX_POINTS) -> np.ndarray:
    """At most `limit` indices of `count`, evenly spread, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64))


def extreme_indices(values: np.ndarray, limit: int = MAX_POINTS) -> np.ndarray:
    """At most `limit` indices that keep each stretch's lowest and highest value.

    Even sampling would hide the spike of a single step, which is what one looks for.
    """
    if len(values) <= limit:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), limit // 2 - 1):
        finite = stretch[np.isfinite(values[stretch])]
        if len(finite):
            kept |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
    return np.array(sorted(kept))


def value_range(values: np.ndarray, *, share: bool = False) -> tuple[float, float]:
    """The interval of the vertical axis.

    It holds all values unless a few outliers (a first step's loss, say) would press the rest
    into less than a third of the height; those are cut off. Values in [0, 1] get the whole of it
    when they use much of it.

    Args:
        values: [n], of all curves of the chart.
        share: no value beyond [0, 1] can occur, so the axis must not suggest one. Values that
            do lie beyond (percentages, say) are drawn as any others.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if len(values) >= 20:
        inner_low, inner_high = (float(x) for x in np.percentile(values, [1.5, 98.5]))
        if high - low > 3 * (inner_high - inner_low) > 0:
            margin = 0.35 * (inner_high - inner_low)
            low, high = max(low, inner_low - margin), min(high, inner_high + margin)
    if low >= 0 and high <= 1 and high - low > 0.4:
        return 0.0, 1.0
    # Differences that float32 hardly tells apart are none to look at.
    flat = high - low <= max(1e-6 * max(abs(low), abs(high)), 1e-300)
    # A mean of ones in float32 may be a little more than 1.
    if share and values.min() >= -1e-6 and values.max() <= 1 + 1e-6:
        bottom, top = min(0.0, low), max(1.0, high)
        if flat:
            return bottom, top
        low, high = value_range(values)
        return max(low, bottom), min(high, top)
    if low >= 0 and low < 0.35 * high:
        low = 0.0
    if flat:
        # A flat line goes into the middle.
        size = abs(high) * 0.5 if abs(high) > 1e-290 else 1.0
        return low - size if low < 0 or low - size > 0 else 0.0, high + size
    margin = 0.06 * (high - low)
    return (0.0 if low == 0 else low - margin), high + margin


def clip_finite(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clips to [low, high], but keeps infinities: they are not values beyond the axis."""
    return np.where(np.isfinite(values), np.clip(values, low, high), values)


class Axes:
    """Maps steps and values to the units of the drawing, and draws the frame."""

    def __init__(self, steps: tuple[float, float], values: tuple[float, float]) -> None:
        self.low, self.high = values
        first, last = steps
        # A single step gets an axis of its own width around it.
        self.first, self.last = (first, last) if last > first else (first - 1, last + 1)

    def x(self, steps: np.ndarray | float) -> Any:
        return LEFT + (steps - self.first) / (self.last - self.first) * (RIGHT - LEFT)

    def y(self, values: np.ndarray | float) -> Any:
        return BOTTOM - (values - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    def frame(self) -> str:
        parts = []
        marks = ticks(self.low, self.high, 5)
        step = marks[1] - marks[0] if len(marks) > 1 else max(abs(self.high), 1e-12)
        for mark in marks:
            y = self.y(mark)
            base = " base" if mark == 0 else ""
            parts.append(f'<path class="grid{base}" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
                f"{tick_label(mark, step)}</text>"
            )
        whole = [mark for mark in ticks(self.first, self.last, 5) if mark == round(mark)]
        for mark in whole:
            anchor = "end" if self.x(mark) > RIGHT - 8 else "middle"
            parts.append(
                f'<text class="tick" x="{self.x(mark):.1f}" y="{BOTTOM + 17}" '
                f'text-anchor="{anchor}">{tick_label(mark, 1)}</text>'
            )
        return "".join(parts)


def path_data(axes: Axes, steps: np.ndarray, values: np.ndarray) -> str:
    """The path through the points, interrupted where a value is not finite."""
    parts, pen_down = [], False
    # Far outside the frame is as good as infinitely far, and keeps the numbers short.
    ys = clip_finite(axes.y(values), TOP - 400, BOTTOM + 400)
    for x, y in zip(axes.x(steps), ys, strict=True):
        if not math.isfinite(y):
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = True
    return "".join(parts)


def hover_data(axes: Axes, series: Sequence[Series], unit: str = "") -> dict[str, Any]:
    """What the page's script needs to read values out of the chart."""
    lines = []
    for line in series:
        at = spread_indices(len(line.values))
        lines.append(
            {
                "name": line.name,
                "colour": line.colour % COLOURS,
                "steps": line.steps[at].tolist(),
                # Four significant digits are what the read-out shows; None stands for NaN.
                "values": [
                    float(f"{v:.4g}") if math.isfinite(v) else None for v in line.values[at]
                ],
                "ys": [
                    round(float(y), 1) if math.isfinite(y) else None
                    for y in axes.y(smooth(clip_finite(line.values, axes.low, axes.high))[at])
                ],
            }
        )
    return {"first": axes.first, "last": axes.last, "unit": unit, "lines": lines}


def line_chart(
    series: Sequence[Series], label: str, *, share: bool = False
) -> tuple[str, dict[str, Any], str]:
    """Draws curves: raw values faint, smoothed ones strong, single points as dots.

    Args:
        series: the curves.
        label: what the chart shows, for readers that cannot see it.
        share: the values are shares, whose axis stays within [0, 1].

    Returns:
        The SVG text, the data for the hover read-out, and a note on what was cut off ("" when
        nothing was).
    """
    everything = np.concatenate([line.values for line in series])
    steps = np.concatenate([line.steps for line in series])
    low, high = value_range(everything, share=share)
    axes = Axes((int(steps.min()), int(steps.max())), (low, high))
    parts = [axes.frame(), '<g clip-path="url(#plot)">']
    for line in series:
        colour = f"c{line.colour % COLOURS}"
        dash = " dashed" if line.dashed or line.colour >= COLOURS else ""
        # Clipped, so that one value beyond the axis does not bend the curve for a whole window.
        smoothed = smooth(clip_finite(line.values, low, high))
        if not np.array_equal(smoothed, line.values, equal_nan=True):
            at = extreme_indices(line.values)
            d = path_data(axes, line.steps[at], line.values[at])
            parts.append(f'<path class="raw {colour}" d="{d}"/>')
        at = spread_indices(len(smoothed))
        d = path_data(axes, line.steps[at], smoothed[at])
        parts.append(f'<path class="line {colour}{dash}" d="{d}"/>')
        if len(line.values) <= 12:
            for x, y in zip(axes.x(line.steps), axes.y(line.values), strict=True):
                if math.isfinite(y):
                    parts.append(
                        f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
                    )
    parts.append("</g>")
    return _svg(parts, label), hover_data(axes, series), _cut_note(everything, low, high)


def stacked_chart(
    steps: np.ndarray, layers: Sequence[tuple[str, np.ndarray, int]], label: str
) -> tuple[str, dict[str, Any], str]:
    """Draws seconds per step as areas on top of each other.

    Args:
        steps: [n] i64.
        layers: (name, [n] values, colour) from the bottom up.
        label: what the chart shows, for readers that cannot see it.
    """
    total = np.sum([values for _, values, _ in layers], axis=0)
    high = value_range(np.append(total, 0.0))[1]
    axes = Axes((int(steps[0]), int(steps[-1])), (0.0, high))
    # One area per stretch of steps: its mean, so that the areas keep the meaning of a share.
    stretches = np.array_split(np.arange(len(steps)), min(len(steps), MAX_POINTS // 2))
    centres = np.array([steps[stretch].mean() for stretch in stretches])
    parts = [axes.frame(), '<g clip-path="url(#plot)">']
    below = np.zeros(len(stretches))
    for _, values, colour in layers:
        above = below + np.array([values[stretch].mean() for stretch in stretches])
        upper = path_data(axes, centres, above)
        lower = path_data(axes, centres[::-1], below[::-1]).replace("M", "L", 1)
        parts.append(f'<path class="area c{colour}" d="{upper}{lower}Z"/>')
        below = above
    parts.append("</g>")
    series = [Series(name, steps, values, colour) for name, values, colour in layers]
    hover = hover_data(axes, series, unit=" s")
    for line in hover["lines"]:  # the read-out names the values; dots would sit on no edge
        line["ys"] = [None] * len(line["ys"])
    return _svg(parts, label), hover, _cut_note(total, 0.0, high, " s")


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _cut_note(values: np.ndarray, low: float, high: float, unit: str = "") -> str:
    """Says what the axis leaves out, and what could not be drawn at all."""
    finite = values[np.isfinite(values)]
    notes = []
    if len(finite) and finite.max() > high:
        notes.append(f"peak {finite.max():.3g}{unit} beyond the axis")
    if len(finite) and finite.min() < low:
        notes.append(f"low {finite.min():.3g}{unit} beyond the axis")
    if len(finite) < len(values):
        notes.append(f"{len(values) - len(finite)} values not finite")
    return ", ".join(notes)
