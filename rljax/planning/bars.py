"""Horizontal bars as SVG text: rows of stacked pieces over one axis, with a limit drawn across.

The look is that of the report's charts (reporting/svg.py); the style sheet decides the colours.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from rljax.reporting.sections import legend
from rljax.reporting.svg import tick_label, ticks

WIDTH, LEFT, RIGHT = 820, 120, 680  # the bars lie between LEFT and RIGHT
BAR, GAP, NEAR, TOP, AXIS = 18, 12, 3, 12, 26


class Bar(NamedTuple):
    """A row.

    Attributes:
        name: written before it; a row without one belongs to that above, and lies near it.
        pieces: (what, how much, colour), from the left.
        end: written behind it.
    """

    name: str
    pieces: Sequence[tuple[str, float, int]]
    end: str


def bars(
    rows: Sequence[Bar], label: str, unit: str, *, limit: float = 0.0, limit_name: str = ""
) -> str:
    """The SVG text.

    Args:
        rows: from the top.
        label: what the chart shows, for readers that cannot see it.
        unit: of all pieces.
        limit: a dashed line across all bars; 0: none.
        limit_name: written above it.
    """
    longest = max(sum(size for _, size, _ in row.pieces) for row in rows)
    high = 1.06 * max(longest, limit) or 1.0
    top = TOP + (14 if limit else 0)
    places = _places(rows, top)
    bottom = places[-1] + BAR + GAP / 2
    height = bottom + AXIS

    def x(value: float) -> float:
        return LEFT + value / high * (RIGHT - LEFT)

    marks = ticks(0.0, high, 6)
    pitch = marks[1] - marks[0] if len(marks) > 1 else high
    parts = []
    for mark in marks:
        at = f"{x(mark):.1f}"
        parts.append(f'<path class="grid" d="M{at} {top - 4}V{bottom}"/>')
        parts.append(_text("tick", "middle", at, bottom + 16, tick_label(mark, pitch)))
    parts.append(_text("tick", "start", str(RIGHT + 6), bottom + 16, unit))
    if limit:
        at = f"{x(limit):.1f}"
        parts.append(f'<path class="limit" d="M{at} {top - 6}V{bottom}"/>')
        parts.append(_text("tick", "middle", at, top - 10, limit_name))
    for row, y in zip(rows, places, strict=True):
        middle = y + BAR / 2 + 4
        parts.append(_text("bar-name", "end", str(LEFT - 8), middle, row.name))
        begin = 0.0
        for what, size, colour in row.pieces:
            parts.append(
                f'<rect class="area c{colour}" x="{x(begin):.1f}" y="{y}" height="{BAR}" '
                f'width="{x(size) - LEFT:.1f}">'
                f"<title>{escape(f'{row.name}: {what} {size:.3g} {unit}')}</title></rect>"
            )
            begin += size
        parts.append(_text("bar-end", "start", f"{x(begin) + 6:.1f}", middle, row.end))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _places(rows: Sequence[Bar], top: int) -> list[int]:
    """The upper edge of each row."""
    found = [top]
    for row in rows[1:]:
        found.append(found[-1] + BAR + (GAP if row.name else NEAR))
    return found


def bar_figure(title: str, meaning: str, drawing: str, names: Sequence[tuple[str, int]]) -> str:
    """A chart with its heading and the names of its colours."""
    return (
        f'<figure class="chart wide"><figcaption><span class="title">{escape(title)}</span>'
        f'<span class="meaning">{escape(meaning)}</span></figcaption>{drawing}'
        f"{legend(names)}</figure>"
    )


STYLE = (
    ".bar-name { font: 13px var(--sans); fill: var(--ink); }\n"
    ".bar-end { font: 12px var(--sans); fill: var(--ink); font-variant-numeric: tabular-nums;"
    " paint-order: stroke; stroke: var(--card); stroke-width: 3px; }\n"
    ".limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }\n"
    ".wide { max-width: 900px; margin: 16px 0; }\n"
    ".doubt { color: var(--bad); }\n"
)


def _text(kind: str, anchor: str, x: str, y: float, content: str) -> str:
    return f'<text class="{kind}" text-anchor="{anchor}" x="{x}" y="{y:g}">{escape(content)}</text>'
