"""The end of a run: its final figures as a table, and the rollouts that the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rljax.reporting import files
from rljax.reporting.goodput import as_line
from rljax.reporting.progress import format_seconds, format_value


def rollout_steps(total_steps: int) -> tuple[int, ...]:
    """The steps whose rollouts are kept: first, middle, last (fewer when they coincide)."""
    return tuple(sorted({1, (total_steps + 1) // 2, total_steps})) if total_steps > 0 else ()


def write_rollout(workdir: Path | str, rollout: Mapping[str, Any]) -> Path:
    """Writes rollouts/STAGE-STEP.json and returns its path."""
    name = f"{rollout['stage']}-{rollout['step']:06d}.json"
    path = Path(workdir) / files.ROLLOUTS_FOLDER / name
    files.write_json_atomic(path, rollout)
    return path


def remove_rollouts(workdir: Path | str, last: Mapping[str, int]) -> None:
    """Removes the rollouts of steps that a resumed run makes again.

    Args:
        workdir: of the run.
        last: stage -> its last step that is kept; stages that are not named keep none.
    """
    for path in (Path(workdir) / files.ROLLOUTS_FOLDER).glob("*-*.json"):
        stage, _, step = path.stem.rpartition("-")
        if step.isdigit() and int(step) > last.get(stage, 0):
            path.unlink()


def change_style(before: float | None, after: float) -> str:
    """How the accuracy at the end is printed: red where it fell, green where it rose."""
    if before is None or before == after:
        return "bold"
    return "bold green" if after > before else "bold red"


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the final figures: the held-out accuracy first, then the rest, then the stages."""
    console = console or Console()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    before = files.number(summary.get("heldout_accuracy_before"))
    after = files.number(summary.get("heldout_accuracy_after"))
    if after is not None:
        start = "" if before is None else f"{before:.3f} → "
        table.add_row("held-out accuracy", f"{start}[{change_style(before, after)}]{after:.3f}[/]")
    if (wall := files.number(summary.get("wall_seconds"))) is not None:
        table.add_row("wall time", format_seconds(wall))
    if isinstance(time := summary.get("goodput"), Mapping):
        table.add_row("goodput", escape(as_line(time)))
    shown = {"heldout_accuracy_before", "heldout_accuracy_after", "wall_seconds", "stages"}
    shown.add("parameters_sha256")  # cut off in a cell, and to be compared by programs
    for name, value in summary.items():
        if name not in shown and not isinstance(value, Mapping | list):
            # A folder may be called [red].
            table.add_row(escape(name.replace("_", " ")), escape(format_value(value)))
    console.print(table, soft_wrap=False)
    stages = summary.get("stages")
    if isinstance(stages, Mapping) and stages:
        console.print(_stage_table(stages))


def _stage_table(stages: Mapping[str, Any]) -> Table:
    """One column per stage, one line per figure: wide runs have more figures than stages."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("stage")
    for stage in stages:
        table.add_column(stage, justify="right")
    names = dict.fromkeys(
        name
        for figures in stages.values()
        if isinstance(figures, Mapping)
        for name, value in figures.items()
        if not isinstance(value, Mapping | list)
    )
    for name in names:
        cells = []
        for figures in stages.values():
            value = figures.get(name) if isinstance(figures, Mapping) else None
            seconds = name.endswith("seconds") and files.number(value) is not None
            cells.append(format_seconds(float(value)) if seconds else format_value(value))
        table.add_row(escape(name.replace("_", " ")), *map(escape, cells))
    return table
