"""The frame of every page that is written here: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from rljax.reporting import rollout_view, svg
from rljax.reporting.script import SCRIPT
from rljax.reporting.style import STYLE

# The policy forbids the page to load anything, whatever text a run has brought into it.
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><clipPath id="plot">
<rect x="{left}" y="{top}" width="{width}" height="{height}"/></clipPath></defs></svg>
<header>
<p class="eyebrow">{eyebrow}</p>
<h1>{heading}</h1>
{headline}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}
</main>
<footer>{footer}</footer>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="chart-data">{charts}</script>
<script type="application/json" id="rollout-data">{rollouts}</script>
<script>{script}</script>
</body>
</html>
"""

# What the script looks for on a page without rollouts.
NO_VIEWER = '<div id="viewer" hidden></div>'


def fill_page(
    *,
    title: str,
    eyebrow: str,
    headline: str,
    links: Sequence[tuple[str, str]],
    body: Sequence[str],
    footer: str,
    heading: str = "",
    style: str = STYLE,
    script: str = SCRIPT,
    charts: Any = (),
    rollouts: Any = (),
) -> str:
    """The whole page as text; it loads nothing from anywhere.

    Args:
        title: of the page; text, as `eyebrow` and `footer`.
        eyebrow: a line above the heading, that says what the page is of.
        headline: HTML below the heading.
        links: (anchor, text) of the sections.
        body: HTML of the sections.
        footer: a line at the end.
        heading: HTML; by default the title.
        style: the style sheet.
        script: the JavaScript.
        charts: what the charts show under the pointer (`sections.Figures.hover`).
        rollouts: of the rollout viewer.
    """
    box = f"[{svg.LEFT}, {svg.RIGHT}, {svg.TOP}, {svg.BOTTOM}, {svg.WIDTH}];"
    return PAGE.format(
        title=escape(title),
        style=style,
        left=svg.LEFT - 1,
        top=svg.TOP - 4,
        width=svg.RIGHT - svg.LEFT + 5,
        height=svg.BOTTOM - svg.TOP + 8,
        eyebrow=escape(eyebrow),
        heading=heading or escape(title),
        headline=headline,
        links="".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links),
        body="\n".join(body),
        footer=escape(footer),
        charts=rollout_view.embed_json(charts),
        rollouts=rollout_view.embed_json(rollouts),
        script=script.replace("BOX;", box, 1),
    )


def tiles(named: Sequence[tuple[str, str]]) -> str:
    """A headline of figures with their names."""
    cells = "".join(
        f"<div class=tile><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in named
    )
    return f"<dl class=tiles>{cells}</dl>"


def html_table(
    headers: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    classes: Sequence[str] = (),
    strong: Sequence[str] = (),
) -> str:
    """A table whose first column heads its rows.

    Args:
        headers: of the columns.
        cells: rows of texts.
        classes: of each row in the style sheet; "": none.
        strong: headers of the columns that hold a verdict.
    """
    head = "".join(f"<th scope=col>{escape(header)}</th>" for header in headers)
    body = []
    for index, line in enumerate(cells):
        mark = f' class="{classes[index]}"' if classes and classes[index] else ""
        columns = "".join(
            f"<td{' class=verdict' * (header in strong)}>{escape(cell)}</td>"
            for header, cell in zip(headers[1:], line[1:], strict=True)
        )
        body.append(f"<tr{mark}><th scope=row>{escape(line[0])}</th>{columns}</tr>")
    return (
        f"<div class=scroll><table class=figures><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def section(anchor: str, name: str, content: str) -> str:
    """A section with its heading; `content` is HTML."""
    return f'<section id="{anchor}"><h2>{escape(name)}</h2>{content}</section>'
