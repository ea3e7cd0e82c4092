"""report.html of a sweep: one file that needs no network, in the look of a run's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from rljax.comparison import palette
from rljax.comparison.curves import BandCurve, shared_axes
from rljax.comparison.picture import chart
from rljax.comparison.statistics import median_band
from rljax.comparison.sweeps import tables
from rljax.comparison.sweeps.coordinates import parallel_coordinates
from rljax.comparison.sweeps.effects import Effect, effect_chart
from rljax.comparison.sweeps.fields import short_cells
from rljax.comparison.sweeps.lineage import Lineage
from rljax.comparison.sweeps.schedules import population_section
from rljax.comparison.sweeps.scores import Condition, metrics_of
from rljax.comparison.table import DASH
from rljax.reporting import sections, svg
from rljax.reporting.glossary import describe, is_share
from rljax.reporting.page import NO_VIEWER, fill_page, html_table, section, tiles
from rljax.reporting.progress import format_value
from rljax.reporting.style import STYLE


def page(
    title: str,
    conditions: Sequence[Condition],
    fields: Sequence[str],
    effects: Sequence[Effect],
    metric: str,
    best: str,
    lineage: Lineage | None = None,
) -> str:
    """The whole page as text; it loads nothing from anywhere.

    Args:
        title: of the page.
        conditions: the best first.
        fields: that differ between them.
        effects: of these fields.
        metric: by which they are ranked.
        best: a sentence on the best one.
        lineage: of a population; its fields change, so they have no effect at the end.
    """
    figures = sections.Figures()
    parts = _parts(conditions, fields, effects, metric, best, lineage, figures)
    return fill_page(
        title=title,
        eyebrow="rljax · sweep",
        headline=_headline(conditions, metric),
        links=[(anchor, name) for anchor, (name, _) in parts.items()],
        body=[*(section(anchor, *part) for anchor, part in parts.items()), NO_VIEWER],
        footer=f"ranked by {metric}",
        style=STYLE + palette.page_style(),
        charts=figures.hover,
    )


def _parts(
    conditions: Sequence[Condition],
    fields: Sequence[str],
    effects: Sequence[Effect],
    metric: str,
    best: str,
    lineage: Lineage | None,
    figures: sections.Figures,
) -> dict[str, tuple[str, str]]:
    """Anchor -> heading and content of each part that has any."""
    results = tables.main_table(conditions, fields, metric, change=lineage is not None)
    how = tables.how_to_read(metric, change=lineage is not None)
    parts = {"results": ("Results", _results(conditions, results, how, best))}
    if lineage is None:
        parts |= {
            "coordinates": ("Parallel coordinates", _coordinates(conditions, fields, metric)),
            "effects": ("Effect of each field", _effects(conditions, effects, metric)),
        }
    else:
        parts["population"] = ("Population", population_section(lineage, conditions, metric))
    metrics = tables.metrics_table(conditions, fields)
    parts |= {
        "curves": ("Curves", _curves(conditions, fields, metric, figures)),
        "metrics": ("Every metric", html_table(*metrics) if metrics[1] else ""),
    }
    return {anchor: part for anchor, part in parts.items() if part[1]}


def _headline(conditions: Sequence[Condition], metric: str) -> str:
    ends = [end.state for each in conditions for end in each.ends]
    best = conditions[0].estimate(metric).value
    named = [
        ("Best " + metric.partition("/")[2], DASH if math.isnan(best) else format_value(best)),
        ("Conditions", str(len(conditions))),
    ]
    named += [(f"Cells {state}", str(ends.count(state))) for state in dict.fromkeys(ends)]
    return tiles(named)


def _results(conditions: Sequence[Condition], table: tables.Table, how: str, best: str) -> str:
    failures = tables.failures_table(conditions)
    more = (
        "<details class=more open><summary>Cells that failed or were stopped</summary>"
        f"{html_table(*failures)}</details>"
        if failures[1]
        else ""
    )
    return f"<p>{escape(best)}</p>{html_table(*table)}{more}<p class=meaning>{escape(how)}</p>"


def _coordinates(conditions: Sequence[Condition], fields: Sequence[str], metric: str) -> str:
    drawing = parallel_coordinates(conditions, fields, metric)
    if not drawing:
        return ""
    meaning = (
        "A line is a cell, by the median over its seeds. Blue: the best third, thick the best one; "
        "light blue: the middle; grey: the worst."
    )
    return f'<p class=meaning>{meaning}</p><figure class="chart scroll">{drawing}</figure>'


def _effects(conditions: Sequence[Condition], effects: Sequence[Effect], metric: str) -> str:
    if not effects:
        return ""
    cards = "".join(
        f'<figure class="chart"><figcaption><span class="title">{escape(each.field)}</span>'
        f'<span class="last">spread {format_value(each.spread)}</span>'
        f'<span class="meaning">{escape(metric)} by value; a dot is a cell, the line the median.'
        f"</span></figcaption>{effect_chart(conditions, each, metric)}</figure>"
        for each in effects
    )
    return f"<div class=charts>{cards}</div>{html_table(*tables.effects_table(effects))}"


def _curves(
    conditions: Sequence[Condition], fields: Sequence[str], metric: str, figures: sections.Figures
) -> str:
    """A chart for every metric: the best conditions in colour, the others in grey."""
    short = short_cells([each.name for each in conditions], fields)
    shown = list(conditions[: palette.OTHERS])
    names = [metric, *(name for name in metrics_of(conditions) if name != metric)]
    cards = []
    for name in names:
        drawn = [_curve(each, name, short, index) for index, each in enumerate(shown)]
        others = [_curve(each, name, short, 7) for each in conditions[len(shown) :]]
        drawn, others = ([c for c in given if c is not None] for given in (drawn, others))
        if not drawn:
            continue
        about = describe(name.partition("/")[2])
        axes = shared_axes([*drawn, *others], share=is_share(name.partition("/")[2]))
        drawing, hover, note = chart(drawn, axes, name, context=others)
        heading = f"{about.label} ({'held out' if name.startswith('heldout/') else 'training'})"
        cards.append(figures.figure(heading, about.meaning, "", drawing, hover, note, ()))
    if not cards:
        return ""
    items = "".join(
        f'<li><i class="swatch c{index}"></i>{escape(short[each.name])}</li>'
        for index, each in enumerate(shown)
    )
    grey = "; grey: the other cells" if len(conditions) > len(shown) else ""
    return (
        f"<p class=meaning>Median over seeds, shaded: its 95 % interval{grey}.</p>"
        f'<ul class="legend">{items}</ul><div class=charts>{"".join(cards)}</div>'
    )


def _curve(
    condition: Condition, metric: str, short: Mapping[str, str], colour: int
) -> BandCurve | None:
    """The median over the seeds that have logged a metric, at the steps that all of these have."""
    curves = [curve for curve in condition.curves.get(metric, ()) if curve is not None]
    if not curves:
        return None
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    if not len(steps):
        return None
    values = np.array([curve.values[np.searchsorted(curve.steps, steps)] for curve in curves])
    at = svg.spread_indices(len(steps), 200)
    return BandCurve(short[condition.name], steps[at], median_band(values[:, at]), colour)
