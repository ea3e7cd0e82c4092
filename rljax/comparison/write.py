"""Writes the files of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rljax.comparison import picture, table
from rljax.comparison.budget import Budget, at_budget
from rljax.comparison.notes import notes
from rljax.comparison.orderings import Claim
from rljax.comparison.page import page
from rljax.comparison.results import check_claims, find_rows
from rljax.comparison.runs import MethodRuns
from rljax.reporting import files

TABLE, CSV, CLAIMS = "table.md", "table.csv", "claims.csv"
CURVES, CURVES_PNG = "curves.svg", "curves.png"


def write_comparison(
    workdir: Path | str,
    runs: Sequence[MethodRuns],
    baseline: str,
    threshold: float,
    claims: Iterable[Claim] = (),
    *,
    budget: Budget | None = None,
    remarks: Iterable[str] = (),
    title: str = "Comparison of methods",
) -> dict[str, Any]:
    """Writes table.md, table.csv, curves.svg and report.html, each atomically.

    With claims also claims.csv; with the package resvg_py also curves.png.

    Args:
        workdir: the folder; made when missing.
        runs: the methods, with different labels.
        baseline: the label, or a method run with one setting, that the others are compared with.
        threshold: the held-out accuracy whose cost is reported, in (0, 1].
        claims: orderings to test; both methods of each must be there (see `claims_about`).
        budget: what each seed may spend: runs are compared at that point, and charts go along
            its axis. None: at their ends, along steps.
        remarks: sentences on how the runs came about, for the notes.
        title: heading of the page.

    Returns:
        "baseline" (its label), "threshold", "rows" (the rows of table.csv, the best first),
        "claims" (those of claims.csv), "notes" (what to mind) and "files" (names written).

    Raises:
        ValueError: for labels that repeat, or an impossible baseline, threshold or claim.
    """
    workdir = Path(workdir)
    runs = [run if budget is None else at_budget(run, budget) for run in runs]
    axis = "step" if budget is None else budget.axis
    rows = find_rows(runs, baseline, threshold)
    tested = check_claims(claims, runs, threshold)
    flat = [table.flat_row(row) for row in rows]
    flat_claims = [table.flat_claim(one) for one in tested]
    mind = [*remarks, *notes(rows, tested, budget)]
    texts = {
        TABLE: table.to_markdown(rows, tested, threshold, mind),
        CSV: table.to_csv(flat),
        CURVES: picture.picture(rows, axis),
        files.REPORT_FILE: page(rows, tested, threshold, mind, title, axis),
    }
    if tested:
        texts[CLAIMS] = table.to_csv(flat_claims)
    for name, text in texts.items():
        files.write_text_atomic(workdir / name, text)
    written = list(texts)
    # What an earlier comparison in this folder left must not stand beside the new tables.
    for name in {CLAIMS, CURVES_PNG} - set(written):
        (workdir / name).unlink(missing_ok=True)
    if (image := picture.png(rows, axis)) is not None:
        files.write_bytes_atomic(workdir / CURVES_PNG, image)
        written.append(CURVES_PNG)
    return {
        "baseline": next(row.runs.label for row in rows if row.baseline),
        "threshold": float(threshold),
        "rows": flat,
        "claims": flat_claims,
        "notes": mind,
        "files": written,
    }
