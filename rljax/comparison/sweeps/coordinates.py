"""Parallel coordinates: axes for the fields and the metric, a line for each condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from rljax.comparison.sweeps.fields import scale_of, short_names
from rljax.comparison.sweeps.scores import Condition
from rljax.reporting import svg
from rljax.reporting.progress import format_value

HEIGHT, TOP, BOTTOM, SIDE = 300, 44, 276, 96
PITCH = 170  # between two axes
# Around labels that lines run behind.
HALO = "paint-order: stroke; stroke: var(--card, #fff); stroke-width: 4px"
# Colours of the palette for the best third, the middle one and the worst.
THIRDS = (0, 5, 7)


def parallel_coordinates(
    conditions: Sequence[Condition], fields: Sequence[str], metric: str
) -> str:
    """The SVG text; "" where no field differs or no condition has the metric.

    Args:
        conditions: the best first.
        fields: the axes, from the left.
        metric: the last axis.
    """
    shown = [each for each in conditions if math.isfinite(each.estimate(metric).value)]
    if not shown or not fields:
        return ""
    names = short_names(fields)
    scales = {field: scale_of([each.values.get(field) for each in shown]) for field in fields}
    scores = [each.estimate(metric).value for each in shown]
    low, high = svg.value_range(np.array(scores))
    across = [SIDE + PITCH * index for index in range(len(fields) + 1)]
    width = across[-1] + SIDE

    def y(place: float) -> float:
        return BOTTOM - place * (BOTTOM - TOP)

    parts = []
    # The worst first, so that the best lies on top.
    for rank in reversed(range(len(shown))):
        each = shown[rank]
        places = [scales[field].place(each.values.get(field)) for field in fields]
        ys = [y(place) for place in places] + [y((scores[rank] - low) / (high - low))]
        d = "M" + "L".join(f"{x} {value:.1f}" for x, value in zip(across, ys, strict=True))
        colour = THIRDS[min(2, 3 * rank // len(shown))]
        width_of = 3.5 if rank == 0 else 1.6
        parts.append(
            f'<path class="line c{colour}" style="stroke-width: {width_of}" d="{d}">'
            f"<title>{escape(f'{each.name}: {format_value(scores[rank])}')}</title></path>"
        )
    # After the lines, so that labels lie on top of them.
    for x, field in zip(across, fields, strict=False):
        parts += _axis(x, names[field], [(y(place), text) for place, text in scales[field].marks])
    ticks = svg.ticks(low, high, 5)
    pitch = ticks[1] - ticks[0] if len(ticks) > 1 else max(abs(high), 1e-12)
    marks = [(y((tick - low) / (high - low)), svg.tick_label(tick, pitch)) for tick in ticks]
    parts += _axis(across[-1], metric.partition("/")[2], marks, right=True)
    label = f"Parallel coordinates of {len(shown)} cells; the best is {shown[0].name}"
    return (
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'style="max-width: {width}px">{"".join(parts)}</svg>'
    )


def _axis(
    x: float, title: str, marks: Sequence[tuple[float, str]], *, right: bool = False
) -> list[str]:
    """A vertical axis with its title above and its labels to one side."""
    side, anchor = (8, "start") if right else (-8, "end")
    return [
        f'<path class="grid base" d="M{x} {TOP}V{BOTTOM}"/>',
        f'<text class="name" text-anchor="middle" x="{x}" y="{TOP - 18}">{escape(title)}</text>',
        *(
            f'<text class="tick" style="{HALO}" text-anchor="{anchor}" x="{x + side}" '
            f'y="{y + 4:.1f}">{escape(text)}</text>'
            for y, text in marks
        ),
    ]
