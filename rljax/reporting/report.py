"""Draws the report of one run, or of several side by side: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from rljax.reporting import files, goodput, rollout_view, sections, timeline
from rljax.reporting.example_view import example_section
from rljax.reporting.page import NO_VIEWER, fill_page
from rljax.reporting.run_data import Run, read_runs


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
    viewer = sections.ROLLOUT_SECTION if rollouts else NO_VIEWER
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
    return fill_page(
        title=runs[0].name if single else "Comparison: " + ", ".join(r.name for r in runs),
        heading=heading,
        eyebrow="rljax · run report" if single else "rljax · comparison",
        headline=sections.headline(runs),
        links=links,
        body=[*order, environment],
        footer=" · ".join(str(run.path) for run in runs),
        charts=figures.hover,
        rollouts=rollouts,
    )
