"""The page of data sets: what rows there are, how long, what they repeat, what cutting costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from rljax.reporting import svg
from rljax.reporting.example_view import KINDS, token_spans
from rljax.reporting.page import NO_VIEWER, fill_page, html_table, section, tiles
from rljax.reporting.sections import Chart, Figures


def render_sets(sets: Sequence[Mapping[str, Any]]) -> str:
    """The page as text.

    Args:
        sets: each with its `name`; `facts`, (name, value) pairs; `remarks` and `refused`, texts;
            `tables`, (title, heads, rows); `curves`, (title, meaning, starts of the bins, counts by
            series); `bars`, (title, (name, count) pairs); `examples`, (title, tokens, ids and kinds
            of an example of a report).
    """
    figures = Figures()
    body = [
        section(f"set-{number}", str(one["name"]), _set(one, figures))
        for number, one in enumerate(sets)
    ]
    first = sets[0]
    return fill_page(
        title=f"{first['name']} and {len(sets) - 1} more" if len(sets) > 1 else str(first["name"]),
        eyebrow="rljax · data",
        headline=tiles(first["facts"]),
        links=[(f"set-{number}", str(one["name"])) for number, one in enumerate(sets)],
        body=[*body, NO_VIEWER],
        footer=" · ".join(str(one["name"]) for one in sets),
        charts=figures.hover,
    )


def _set(one: Mapping[str, Any], figures: Figures) -> str:
    """One set: what should be known of it, its charts, its tables, rows of it."""
    parts = []
    for title, texts in (("Known before training", one["remarks"]), ("Refused", one["refused"])):
        if texts:
            items = "".join(f"<li>{escape(text)}</li>" for text in texts)
            parts.append(f"<h3>{title}</h3><ul>{items}</ul>")
    charts = [_curves(curves, figures) for curves in one["curves"]]
    charts += [_bars(title, counts) for title, counts in one["bars"]]
    if charts:
        parts.append(f"<div class=charts>{''.join(charts)}</div>")
    for title, head, rows in one["tables"]:
        cells = [[str(cell) for cell in row] for row in rows]
        parts.append(f"<h3>{escape(title)}</h3>{html_table(head, cells)}")
    if one["examples"]:
        key = "".join(
            f'<li><span class="token-{kind}">{kind}</span>: {meaning}</li>'
            for kind, meaning in KINDS.items()
        )
        parts.append(f"<h3>Rows</h3><ul class=legend>{key}</ul>")
        parts += [_example(title, example) for title, example in one["examples"]]
    return "".join(parts)


def _curves(curves: Sequence[Any], figures: Figures) -> str:
    title, meaning, starts, counts = curves
    series = [
        svg.Series(name, np.asarray(starts), np.asarray(values, float), colour)
        for colour, (name, values) in enumerate(counts.items())
    ]
    return figures.card(Chart(title, meaning, True, series, share=False), legend=True)


def _bars(title: str, counts: Sequence[tuple[str, int]]) -> str:
    most = max(1, *(count for _, count in counts))
    lines = "".join(
        f'<div class=bar><span>{escape(name)}</span><span class="track c0">'
        f'<i style="width:{100 * count / most:.1f}%"></i></span><span>{count:,}</span></div>'
        for name, count in counts
    )
    return (
        f"<figure class=chart><figcaption><span class=title>{escape(title)}</span></figcaption>"
        f"<div class=bars>{lines}</div></figure>"
    )


def _example(title: str, example: Mapping[str, Any]) -> str:
    return (
        f"<figure class=example><figcaption><span class=title>{escape(title)}</span>"
        f"<span class=last>{len(example['tokens']):,} tokens</span></figcaption>"
        f"<pre>{token_spans(example)}</pre></figure>"
    )
