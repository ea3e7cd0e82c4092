"""Tightness of the bounds and variance of the gradients, as one SVG."""

import math
from collections.abc import Sequence
from html import escape

from rljax.laboratory.report import Row, bounds_of

WIDTH, BAR, LABEL, RIGHT = 720, 18, 250, 80
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600}"
    ".low{fill:#2a78c2}.up{fill:#c25b2a}.true{fill:#222}.none{fill:#9db7d1}.with{fill:#2a78c2}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.true{fill:#ddd}}"
)


def picture(rows: Sequence[Row]) -> str:
    """Two panels: how far each bound is from the truth, and variance times cost on a log scale."""
    top, upper = _gaps(rows, 34)
    bottom, height = _variances(rows, upper + 40)
    label = "Gaps of bounds to the truth, and variance times cost of gradient estimators"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{label}"><style>{STYLE}</style>'
        + "".join(top + bottom)
        + "</svg>\n"
    )


def _gaps(rows: Sequence[Row], y: int) -> tuple[list[str], int]:
    """Bars of |bound - log p|, and where the panel ends."""
    truth = rows[0]["truth"]
    gaps = [(name, value - truth) for name, value in bounds_of(rows) if value != truth]
    parts = [_text(10, y - 14, f"Distance from log p(a* | x) = {truth:.4f}, nats", "t")]
    longest = max((abs(gap) for _, gap in gaps), default=1.0)
    for name, gap in gaps:
        size = (WIDTH - LABEL - RIGHT) * abs(gap) / longest
        parts += _bar(y, name, size, f"{gap:+.3f}", "low" if gap < 0 else "up")
        y += BAR + 4
    return parts, y


def _variances(rows: Sequence[Row], y: int) -> tuple[list[str], int]:
    """Bars of log(variance x cost), light without a baseline, and where the panel ends."""
    found = [row for row in rows if row["variance_times_cost"]]
    title = "Variance of the gradient x cost, log scale: less is better"
    parts = [_text(10, y - 14, title, "t")]
    logs = [math.log10(row["variance_times_cost"]) for row in found]
    low, high = min(logs, default=0.0) - 0.2, max(logs, default=1.0)
    for row, value in zip(found, logs, strict=True):
        size = (WIDTH - LABEL - RIGHT) * (value - low) / max(high - low, 1e-9)
        name = f"{row['estimator']}, n={row['samples']}, {row['baseline']}"
        kind = "none" if row["baseline"] == "none" else "with"
        parts += _bar(y, name, size, f"{row['variance_times_cost']:.3g}", kind)
        y += BAR + 4
    return parts, y


def _bar(y: int, name: str, size: float, value: str, kind: str) -> list[str]:
    return [
        _text(10, y + 13, name),
        f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{max(size, 1):.1f}" height="{BAR}"/>',
        _text(LABEL + size + 6, y + 13, value),
    ]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text{mark} x="{x:.1f}" y="{y}">{escape(text)}</text>'
