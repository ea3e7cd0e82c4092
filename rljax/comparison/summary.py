"""Several comparisons in two short tables: how methods ended, and which claims hold."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rljax.comparison.write import CLAIMS, CSV


def summarise(workdirs: Sequence[Path]) -> str:
    """Markdown of the final accuracies and claims of some comparisons, one column each.

    Args:
        workdirs: folders that `write_comparison` wrote; each gives its column its name.

    Raises:
        ValueError: for a folder without a finished comparison.
    """
    tables = {Path(folder).name: _rows(Path(folder) / CSV) for folder in workdirs}
    methods = list(dict.fromkeys(row["label"] for rows in tables.values() for row in rows))
    header = ["method", *(f"{task}: median accuracy, against the baseline" for task in tables)]
    lines = [_line(header), _line(["---"] * len(header))]
    found = {task: {row["label"]: row for row in rows} for task, rows in tables.items()}
    for method in methods:
        rows = [by_label.get(method) for by_label in found.values()]
        cells = ["-" if row is None else _accuracy(row) for row in rows]
        lines.append(_line([method, *cells]))
    return "\n".join([*lines, "", *_claims(workdirs)])


def _claims(workdirs: Sequence[Path]) -> list[str]:
    """The table of claims; one that was not tested has a dash."""
    tested: dict[tuple[str, ...], dict[str, str]] = {}
    for folder in map(Path, workdirs):
        path = folder / CLAIMS
        for row in _rows(path) if path.exists() else []:
            claim = f"{row['method']} {row['relation']} {row['other']}"
            key = (claim, row["metric"].replace("_", " "), row["source"])
            tested.setdefault(key, {})[folder.name] = row["verdict"]
    names = [Path(folder).name for folder in workdirs]
    header = ["claim", "in", "source", *names]
    lines = [_line(header), _line(["---"] * len(header))]
    for key, verdicts in tested.items():
        lines.append(_line([*key, *(verdicts.get(name, "-") for name in names)]))
    return lines


def _accuracy(row: dict[str, str]) -> str:
    value, low, high = (
        f"{float(text):.3f}" if (text := row[f"accuracy_median{end} [share]"]) else ""
        for end in ("", "_low", "_high")
    )
    verdict = "baseline" if row["baseline"] == "True" else row["verdict"]
    return f"{value} [{low}, {high}], {verdict}" if low else f"{value}, {verdict}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise ValueError(f"There is no finished comparison: {path} is missing (--summary).")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
