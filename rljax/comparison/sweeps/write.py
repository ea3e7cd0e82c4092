"""All files of a sweep: the page, the tables, one row of CSV for each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rljax.comparison.sweeps import tables
from rljax.comparison.sweeps.effects import effects
from rljax.comparison.sweeps.fields import swept
from rljax.comparison.sweeps.folder import DONE, STOPPED, Plan, read_plan
from rljax.comparison.sweeps.lineage import read_lineage
from rljax.comparison.sweeps.page import page
from rljax.comparison.sweeps.schedules import about
from rljax.comparison.sweeps.scores import Condition, check_metric, ranked, read_conditions
from rljax.comparison.table import interval, to_csv
from rljax.reporting import files

MARKDOWN, CSV, CELLS_CSV = "table.md", "table.csv", "cells.csv"


def write_sweep(folder: Path, plan: Plan | None = None, out: Path | None = None) -> list[Condition]:
    """Writes report.html, table.md, table.csv and cells.csv of a sweep as far as it has come.

    Args:
        folder: of the sweep.
        plan: of it; None reads it.
        out: of the page; by default it lies in the folder.

    Returns:
        The conditions, the best first.

    Raises:
        ValueError: for a folder without a sweep, or a metric that no cell has logged.
    """
    plan = plan or read_plan(folder)
    if plan is None:
        raise ValueError(f"{folder} holds no sweep.")
    conditions = read_conditions(folder, plan)
    check_metric(plan.metric, conditions)
    conditions = ranked(conditions, plan.metric)
    fields = swept(conditions)
    lineage = read_lineage(folder) if plan.population is not None else None
    found = [] if lineage is not None else effects(conditions, fields, plan.metric)
    title = f"{Path(plan.config.partition(':')[0]).stem}: {len(conditions)} conditions"
    best = best_line(conditions, plan.metric)
    main = tables.main_table(conditions, fields, plan.metric, change=lineage is not None)
    parts = [
        ("Results", main),
        ("Cells that failed or were stopped", tables.failures_table(conditions)),
        ("Effect of each field", tables.effects_table(found)),
    ]
    if lineage is not None:
        parts.append(("Members at the end", tables.members_table(lineage, conditions, plan.metric)))
        parts.append(("Copies", tables.copies_table(lineage, conditions)))
    parts.append(("Every metric", tables.metrics_table(conditions, fields)))
    how = tables.how_to_read(plan.metric, change=lineage is not None)
    texts = {
        folder / MARKDOWN: tables.to_markdown(
            title, how, parts, best if lineage is None else f"{best}\n\n{about(lineage)}"
        ),
        folder / CSV: to_csv(tables.flat_conditions(conditions, fields)),
        folder / CELLS_CSV: to_csv(tables.flat_cells(conditions, fields)),
        out or folder / files.REPORT_FILE: page(
            title, conditions, fields, found, plan.metric, best, lineage
        ),
    }
    for path, text in texts.items():
        files.write_text_atomic(path, text)
    return conditions


def best_line(conditions: Sequence[Condition], metric: str) -> str:
    """A sentence on the best condition."""
    found = conditions[0].estimate(metric)
    if math.isnan(found.value):
        return f"No cell has {metric} yet."
    over = all(end.state in (DONE, STOPPED) for each in conditions for end in each.ends)
    equal = sum(each.estimate(metric).value == found.value for each in conditions) - 1
    more = f" {equal} other{'s are' if equal > 1 else ' is'} as good." if equal else ""
    count = sum(math.isfinite(score) for score in conditions[0].scores(metric).tolist())
    return (
        f"Best cell{'' if over else ' so far'}: {conditions[0].name}, {metric} {interval(found)} "
        f"(median of {count} seed{'s' * (count != 1)}).{more}"
    )
