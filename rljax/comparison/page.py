"""report.html of a comparison: one file that needs no network, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rljax.comparison import palette, table
from rljax.comparison.curves import (
    BandCurve,
    accuracy_curve,
    colours,
    logged_curve,
    shared_axes,
)
from rljax.comparison.forest import forest
from rljax.comparison.picture import ACROSS, ONE_CHART, axes_of, chart, multiples
from rljax.comparison.results import Row, Tested
from rljax.reporting import sections
from rljax.reporting.glossary import describe, is_share, sort_names
from rljax.reporting.page import NO_VIEWER, fill_page, html_table, tiles
from rljax.reporting.script import SCRIPT
from rljax.reporting.style import STYLE

# The read-out of a run's charts is always by step; here it may be by tokens.
STEP_NAME = 'make("span", {}, "step")'
ACROSS_NAME = 'make("span", {}, chart.across)'


def legend(rows: Sequence[Row], colour: dict[str, int]) -> str:
    """The methods with their colours, the baseline named as such."""
    items = "".join(
        f'<li><i class="swatch c{colour[row.runs.label]}{" dashed" * row.baseline}"></i>'
        f"{escape(row.runs.label)}{' (baseline)' * row.baseline}</li>"
        for row in rows
    )
    return f'<ul class="legend">{items}</ul>'


def result_table(
    headers: Sequence[str], cells: Sequence[Sequence[str]], rows: Sequence[Row] = ()
) -> str:
    """A table whose verdicts stand out; with `rows` the baseline's is marked."""
    classes = ["baseline" if row.baseline else "" for row in rows]
    return html_table(headers, cells, classes=classes, strong=("Verdict", "Holds here"))


def card(
    figures: sections.Figures,
    title: str,
    meaning: str,
    curves: Sequence[BandCurve],
    *,
    share: bool,
    across: str = "step",
) -> str:
    """One chart of all methods."""
    axes = shared_axes(curves, share=share)
    drawing, hover, note = chart(curves, axes, title, across=across)
    return figures.figure(title, meaning, "", drawing, hover, note, ())


def small_cards(
    figures: sections.Figures,
    rows: Sequence[Row],
    curves: Sequence[BandCurve],
    *,
    share: bool,
    across: str = "step",
) -> str:
    """A chart per method on the same axes, before the medians of all of them."""
    axes = shared_axes(curves, share=share)
    cards = []
    for row, shown in zip(rows, multiples(rows, curves), strict=True):
        label = row.runs.label
        drawing, hover, note = chart(shown, axes, label, across=across, context=curves)
        meaning = "baseline" if row.baseline else f"verdict: {table.verdict_text(row)}"
        cards.append(figures.figure(label, meaning, "", drawing, hover, note, ()))
    return "".join(cards)


def accuracy_section(
    rows: Sequence[Row], colour: dict[str, int], figures: sections.Figures, axis: str
) -> str:
    """Held-out accuracy: two charts of few methods, or a chart for each of many."""
    meaning = "Median over seeds; shaded: 95 % interval of the median."

    def curves(across: str) -> list[BandCurve]:
        return [accuracy_curve(r.runs, colour[r.runs.label], across=across) for r in rows]

    if len(rows) > ONE_CHART:
        cards = small_cards(figures, rows, curves(axis), share=True, across=axis)
        meaning = f"Over {ACROSS[axis]}. {meaning} Dashed: the baseline. Grey: all methods."
        top = f"<p class=meaning>{escape(meaning)}</p>"
    else:
        cards = "".join(
            card(
                figures,
                f"Held-out accuracy by {across}",
                f"Over {ACROSS[across]}. {meaning}",
                curves(across),
                share=True,
                across=across,
            )
            for across in axes_of(axis)
        )
        top = legend(rows, colour)
    return (
        f'<section id="accuracy"><h2>Held-out accuracy</h2>{top}'
        f"<div class=charts>{cards}</div></section>"
    )


def logged_section(rows: Sequence[Row], colour: dict[str, int], figures: sections.Figures) -> str:
    """Reward and every logged metric while training, and their values at the end."""
    names = ["reward", *sort_names({name for row in rows for name in row.runs.metrics})]
    many = len(rows) > ONE_CHART
    parts = []
    for name in names:
        mine = [row for row in rows if name == "reward" or name in row.runs.metrics]
        curves = [logged_curve(row.runs, name, colour[row.runs.label]) for row in mine]
        about = describe(name)
        if many:
            cards = small_cards(figures, mine, curves, share=is_share(name))
            parts.append(
                f"<details class=more><summary>{escape(about.label)} <span>"
                f"{escape(about.meaning)}</span></summary><div class=charts>{cards}</div></details>"
            )
        else:
            meaning = f"{about.meaning} Smoothed."
            parts.append(card(figures, about.label, meaning, curves, share=is_share(name)))
    charts = "".join(parts) if many else f"<div class=charts>{''.join(parts)}</div>"
    top = "" if many else legend(rows, colour)
    headers, cells = table.logged_table(rows)
    return (
        f'<section id="training"><h2>While training</h2>{top}{charts}'
        f"<details class=more><summary>Values at the end <span>mean of the last tenth of the "
        f"steps</span></summary>{result_table(headers, cells, rows)}</details></section>"
    )


def seeds_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Final accuracy and tokens to the threshold of every single seed."""
    headers = ["Method", "Seed", "Final accuracy [share]", "Tokens to the threshold [tokens]"]
    cells = []
    for row in rows:
        cost = row.costs["tokens"]
        for index, seed in enumerate(row.runs.seeds):
            text = table.round_count(float(cost.cost[index]))
            cells.append(
                [
                    row.runs.label,
                    str(seed),
                    table.number(float(row.runs.accuracy[index, -1])),
                    text if cost.reached[index] else f"> {text}",
                ]
            )
    return headers, cells


def result_section(
    rows: Sequence[Row], threshold: float, colour: dict[str, int], notes: Sequence[str]
) -> str:
    """The main table, the differences as a drawing, what to mind, and how to read it."""
    drawing = forest(rows, colour)
    figure = (
        '<figure class="chart" style="max-width: 760px; margin: 20px 0"><figcaption>'
        '<span class="title">Difference to the baseline</span><span class="meaning">Final '
        f"held-out accuracy, with the 95 % interval.</span></figcaption>{drawing}</figure>"
        if drawing
        else ""
    )
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        '<section id="results"><h2>Results</h2>'
        f"{result_table(*table.main_table(rows, threshold), rows)}{figure}"
        f"{f'<ul class=meaning>{items}</ul>' if items else ''}"
        f"<p class=meaning>{escape(table.HOW_TO_READ)}</p>"
        "<details class=more><summary>Every seed</summary>"
        f"{result_table(*seeds_table(rows))}</details></section>"
    )


def headline(rows: Sequence[Row]) -> str:
    """How many methods beat the baseline, fall behind it, or cannot be told from it."""
    said = [row.verdict for row in rows if not row.baseline]
    seeds = _spread([len(row.runs.seeds) for row in rows])
    verdicts = ("better", "not distinguishable", "worse")
    counts = [(name.capitalize(), str(said.count(name))) for name in verdicts]
    return tiles([("Methods", str(len(rows))), ("Seeds each", seeds), *counts])


def _spread(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def page(
    rows: Sequence[Row],
    tested: Sequence[Tested],
    threshold: float,
    notes: Sequence[str],
    title: str,
    axis: str = "step",
) -> str:
    """The whole page as text; it loads nothing from anywhere."""
    if STEP_NAME not in SCRIPT:
        raise ValueError(f"The charts' script has no {STEP_NAME!r} to put the axis' name into.")
    figures, colour = sections.Figures(), colours(rows)
    body = [result_section(rows, threshold, colour, notes)]
    links = [("results", "Results"), ("accuracy", "Held-out accuracy")]
    if tested:
        body.append(
            '<section id="claims"><h2>Orderings claimed</h2>'
            f"{result_table(*table.claim_table(tested))}</section>"
        )
        links.insert(1, ("claims", "Orderings claimed"))
    body.append(accuracy_section(rows, colour, figures, axis))
    body.append(logged_section(rows, colour, figures))
    links.append(("training", "While training"))
    base = next(row.runs.label for row in rows if row.baseline)
    return fill_page(
        title=title,
        eyebrow="rljax · comparison of methods",
        headline=headline(rows),
        links=links,
        body=[*body, NO_VIEWER],
        footer=f"baseline {base} · threshold {threshold:g}",
        style=STYLE + palette.page_style(),
        script=SCRIPT.replace(STEP_NAME, ACROSS_NAME, 1),
        charts=figures.hover,
    )
