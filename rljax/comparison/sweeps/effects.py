"""What each field does: the metric over its values, whatever the other fields are.

A field with many different numbers, as random search draws them, is judged by quarters of these:
each number by itself would explain everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from rljax.comparison.sweeps.cells import text_of
from rljax.comparison.sweeps.fields import FEW, Scale, scale_of, shown_value
from rljax.comparison.sweeps.scores import Condition
from rljax.reporting import svg

QUARTERS = 4
INSET = 28  # of the outer values from the ends of the axis


class Effect(NamedTuple):
    """The effect of one field.

    Attributes:
        field: its name.
        medians: text of a value, or of a quarter of many numbers -> the median of the metric over
            the conditions that have it.
        places: the same texts -> where they lie on the axis, 0 .. 1.
        spread: the largest of these less the smallest.
        explained: the share of the metric's variance between conditions that lies between the
            values, or the quarters, of this field (eta squared); NaN where the metric does not
            vary.
    """

    field: str
    medians: dict[str, float]
    places: dict[str, float]
    spread: float
    explained: float


def effect_of(conditions: Sequence[Condition], field: str, metric: str) -> Effect | None:
    """The effect of a field; None where no condition has the metric."""
    shown = [each for each in conditions if math.isfinite(each.estimate(metric).value)]
    if not shown:
        return None
    scale = scale_of([each.values.get(field) for each in shown])
    scores = np.array([each.estimate(metric).value for each in shown])
    groups = _groups([each.values.get(field) for each in shown], scale)
    total = float(((scores - scores.mean()) ** 2).sum())
    between = sum(len(g) * (scores[g].mean() - scores.mean()) ** 2 for g in groups.values())
    medians = {text: float(np.median(scores[group])) for text, group in groups.items()}
    spread = max(medians.values()) - min(medians.values())
    explained = float(between) / total if total > 0 else math.nan
    at = np.array([scale.place(each.values.get(field)) for each in shown])
    places = {text: float(at[group].mean()) for text, group in groups.items()}
    return Effect(field, medians, places, spread, explained)


def _groups(values: Sequence[Any], scale: Scale) -> dict[str, list[int]]:
    """Text -> which values it stands for: equal ones, or a quarter of many different numbers."""
    order = sorted(range(len(values)), key=lambda index: scale.place(values[index]))
    if not scale.continuous or len(scale.places) <= FEW:
        groups: dict[str, list[int]] = {}
        for index in order:
            groups.setdefault(shown_value(values[index]), []).append(index)
        return groups
    quarters = [part.tolist() for part in np.array_split(order, QUARTERS)]
    return {f"{text_of(values[q[0]])} to {text_of(values[q[-1]])}": q for q in quarters}


def effects(conditions: Sequence[Condition], fields: Sequence[str], metric: str) -> list[Effect]:
    """The effects of all fields, the largest spread first."""
    found = [effect_of(conditions, field, metric) for field in fields]
    return sorted((each for each in found if each is not None), key=lambda each: -each.spread)


def effect_chart(conditions: Sequence[Condition], effect: Effect, metric: str) -> str:
    """The SVG text: a dot for each condition, a line through the medians."""
    shown = [each for each in conditions if math.isfinite(each.estimate(metric).value)]
    scale = scale_of([each.values.get(effect.field) for each in shown])
    scores = np.array([each.estimate(metric).value for each in shown])
    axes = svg.Axes((0, 1), svg.value_range(scores))

    def x(place: float) -> float:
        return svg.LEFT + INSET + place * (svg.RIGHT - svg.LEFT - 2 * INSET)

    ticks = svg.ticks(axes.low, axes.high, 5)
    pitch = ticks[1] - ticks[0] if len(ticks) > 1 else max(abs(axes.high), 1e-12)
    parts = []
    for tick in ticks:
        y = axes.y(tick)
        parts.append(f'<path class="grid" d="M{svg.LEFT} {y:.1f}H{svg.RIGHT}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{svg.LEFT - 7}" y="{y + 4:.1f}">'
            f"{svg.tick_label(tick, pitch)}</text>"
        )
    for place, text in scale.marks:
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x(place):.1f}" y="{svg.BOTTOM + 17}">'
            f"{escape(text)}</text>"
        )
    middles = sorted((effect.places[text], value) for text, value in effect.medians.items())
    d = "M" + "L".join(f"{x(place):.1f} {axes.y(value):.1f}" for place, value in middles)
    dash = "" if scale.continuous else " dashed"
    parts.append(f'<path class="line c1{dash}" d="{d}"/>')
    for each, score in zip(shown, scores.tolist(), strict=True):
        place = x(scale.place(each.values.get(effect.field)))
        parts.append(
            f'<circle class="dot c0" fill-opacity=".75" cx="{place:.1f}" '
            f'cy="{axes.y(score):.1f}" r="4"><title>{escape(each.name)}</title></circle>'
        )
    label = f"{metric} over {effect.field}: " + ", ".join(
        f"{text}: {value:.4g}" for text, value in effect.medians.items()
    )
    return (
        f'<svg viewBox="0 0 {svg.WIDTH} {svg.HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
