"""Draws the report of one run, or of several side by side: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from rljax.reporting import files, goodput, rollout_view, sections, svg, timeline
from rljax.reporting.example_view import example_section
from rljax.reporting.run_data import Run, read_runs
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


def write_report(workdirs: Sequence[Path | str], out: Path | str) -> None:
    """Writes one self-contained HTML file about one run, or comparing several.

    Args:
        workdirs: folders of runs, finished or still running.
        out: the file to write, atomically.

    Raises:
        ValueError: if a workdir is missing, is not that of a run, or holds a damaged file.
    """
    runs = read_runs([Path(workdir) for workdir in workdirs])
    files.write_text_atomic(out, render(runs))


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    figures = sections.Figures()
    names = sections.stage_names(runs)
    stages = [sections.stage_section(name, runs, figures) for name in names]
    rollouts = rollout_view.rollout_data(runs)
    links = [(f"stage-{index}", name) for index, name in enumerate(names)]
    viewer = sections.ROLLOUT_SECTION if rollouts else '<div id="viewer" hidden></div>'
    examples = example_section(runs)
    config = sections.config_section(runs)
    environment = sections.environment_section(runs)
    if rollouts:
        links.append(("rollouts", "Rollouts"))
    if examples:
        links.append(("examples", "First examples"))
    if config:
        links.append(("config", "Config"))
    links.append(("environment", "Environment"))
    times = goodput.section(runs)
    if times:
        links.append(("goodput", "Goodput"))
    spans = timeline.section(runs)
    if spans:
        links.append(("timeline", "Timeline"))
    waiting = "" if names else "<section><p>No metrics have been logged yet.</p></section>"
    # Compared runs lead with what makes them different.
    shown = [*stages, waiting, times, spans, viewer, examples]
    order = [config, *shown] if len(runs) > 1 else [*shown, config]
    single = len(runs) == 1
    heading = escape(runs[0].name) + sections.badge(runs[0]) if single else f"{len(runs)} runs"
    return PAGE.format(
        title=escape(runs[0].name if single else "Comparison: " + ", ".join(r.name for r in runs)),
        style=STYLE,
        left=svg.LEFT - 1,
        top=svg.TOP - 4,
        width=svg.RIGHT - svg.LEFT + 5,
        height=svg.BOTTOM - svg.TOP + 8,
        eyebrow="rljax · run report" if single else "rljax · comparison",
        heading=heading,
        headline=sections.headline(runs),
        links="".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links),
        body="\n".join([*order, environment]),
        footer=escape(" · ".join(str(run.path) for run in runs)),
        charts=rollout_view.embed_json(figures.hover),
        rollouts=rollout_view.embed_json(rollouts),
        script=SCRIPT.replace(
            "BOX;", f"[{svg.LEFT}, {svg.RIGHT}, {svg.TOP}, {svg.BOTTOM}, {svg.WIDTH}];", 1
        ),
    )
