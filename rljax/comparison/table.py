"""The findings as tables: every number in full for programs, rounded for readers.

A column is named with its unit in brackets. "share" is a number between 0 and 1, and intervals
are those of at least 95 %.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rljax.comparison.budget import AXES
from rljax.comparison.results import Row, Tested
from rljax.comparison.statistics import Estimate
from rljax.reporting.glossary import is_share

DASH = "–"


def _put(flat: dict[str, Any], name: str, unit: str, found: Estimate | None) -> None:
    for suffix, value in zip(("", "_low", "_high"), found or (None,) * 3, strict=True):
        flat[f"{name}{suffix} [{unit}]"] = value


def metric_unit(name: str) -> str:
    """The unit of a logged metric, as far as its name tells."""
    if is_share(name):
        return "share"
    return {"entropy": "nats", "completion_tokens": "tokens"}.get(name, "1")


def flat_row(row: Row) -> dict[str, Any]:
    """Column with unit -> value, all numbers of a row; None where there is none."""
    runs = row.runs
    flat: dict[str, Any] = {
        "label": runs.label,
        "method": runs.method,
        "point": json.dumps(runs.point) if runs.point else "",
        "baseline": row.baseline,
        "seeds [runs]": len(runs.seeds),
        "last_step [steps]": int(runs.steps[-1]),
        "last_update [updates]": int(runs.updates[-1]),
        "tokens_per_seed [tokens]": float(runs.tokens[:, -1].mean()),
        "seconds_per_seed [s]": runs.seconds,
        "seconds_per_step [s]": runs.seconds_per_step,
        "learning_rate [1]": runs.learning_rate,
    }
    _put(flat, "accuracy_median", "share", row.accuracy)
    flat["accuracy_mean [share]"] = row.mean
    flat["fell [runs]"] = row.fell
    _put(flat, "accuracy_area", "share", row.area)
    _put(flat, "difference", "share", row.difference)
    flat["paired"] = None if row.baseline else row.paired
    flat["probability_of_improvement [share]"] = row.improvement
    flat["p_corrected [1]"] = row.p
    flat |= {"verdict": row.verdict, "reason": row.reason}
    flat["reached_threshold [share]"] = row.costs["tokens"].share
    for name, unit in AXES.items():
        cost = row.costs[name]
        flat[f"{name}_to_threshold_median [{unit}]"] = cost.median
        flat[f"{name}_to_threshold_median_at_least [{unit}]"] = cost.at_least
    for name, found in row.logged.items():
        _put(flat, f"end_{name}", metric_unit(name), found)
    return flat


def flat_claim(tested: Tested) -> dict[str, Any]:
    """Column -> value, all numbers of a tested claim."""
    claim, effect = tested.claim, tested.effect
    return {
        "method": claim.method,
        "relation": claim.relation,
        "other": claim.other,
        "metric": claim.metric,
        "source": claim.source,
        "verdict": tested.verdict,
        "value": tested.value,
        "other_value": tested.other_value,
        "effect": tested.effect_name,
        "effect_value": effect.value,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "p_corrected": tested.p,
        "seeds": tested.seeds[0],
        "other_seeds": tested.seeds[1],
        "paired": tested.paired,
        "reason": tested.reason,
    }


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV; floats with all their digits, nothing where a number is missing or NaN.

    Columns are those of all rows, in the order in which they first occur.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(row.get(name)) for name in columns] for row in rows)
    return out.getvalue()


def round_count(value: float) -> str:
    """Three digits: 940, 12.3k, 1.25M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999 600 is 1.00M, not 1000k.
        if abs(value) >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + letter
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def number(value: float | None, *, signed: bool = False) -> str:
    """Three decimals, with a sign where asked for, a dash where there is no number."""
    if value is None or math.isnan(value):
        return DASH
    if abs(value) >= 1000:
        return round_count(value).replace("-", "−")
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("-", "−")


def interval(found: Estimate | None, *, signed: bool = False) -> str:
    """A value with its interval, such as 0.812 [0.790, 0.834]."""
    if found is None or math.isnan(found.value):
        return DASH
    if math.isnan(found.low):
        return number(found.value, signed=signed)
    ends = ", ".join(number(end, signed=signed) for end in (found.low, found.high))
    return f"{number(found.value, signed=signed)} [{ends}]"


def cost_text(row: Row, name: str) -> str:
    """The median cost; "> x" where more than x is all that is known."""
    cost = row.costs[name]
    text = round_count(cost.at_least)
    return text if cost.median is not None else f"> {text}"


def verdict_text(row: Row) -> str:
    """The verdict, and why there is none."""
    if row.baseline:
        return "baseline"
    return f"{row.verdict} ({row.reason})" if row.reason else row.verdict


def main_table(rows: Sequence[Row], threshold: float) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the table for readers."""
    headers = [
        "Method",
        "Seeds [runs]",
        "Accuracy, median [share]",
        "Accuracy, mean [share]",
        "Fell [runs]",
        "Difference to baseline [share]",
        "P(improvement) [share]",
        "p, corrected [1]",
        "Verdict",
        f"Reached {threshold:g} [runs]",
        *(f"{name.capitalize()} to {threshold:g}, median [{unit}]" for name, unit in AXES.items()),
        "Updates [updates]",
        "Tokens per seed [tokens]",
        "Time per seed [s]",
        "Time per step and seed [s]",
        "Learning rate [1]",
    ]
    return headers, [_cells(row) for row in rows]


def _cells(row: Row) -> list[str]:
    runs, count = row.runs, len(row.runs.seeds)
    return [
        runs.label,
        str(count),
        interval(row.accuracy),
        number(row.mean),
        f"{row.fell} of {count}",
        interval(row.difference, signed=True),
        number(row.improvement),
        DASH if math.isnan(row.p) else f"{row.p:.2g}",
        verdict_text(row),
        f"{int(row.costs['tokens'].reached.sum())} of {count}",
        *(cost_text(row, name) for name in AXES),
        round_count(float(runs.updates[-1])),
        round_count(float(runs.tokens[:, -1].mean())),
        f"{runs.seconds:.3g}",
        f"{runs.seconds_per_step:.3g}",
        DASH if runs.learning_rate is None else f"{runs.learning_rate:g}",
    ]


def logged_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of reward and logged metrics at the end of training."""
    names = list(dict.fromkeys(name for row in rows for name in row.logged))
    headers = ["Method", *(f"{name} [{metric_unit(name)}]" for name in names)]
    cells = [[row.runs.label, *(interval(row.logged.get(name)) for name in names)] for row in rows]
    return headers, cells


def claim_table(tested: Sequence[Tested]) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the claimed orderings."""
    headers = ["Claim", "Metric", "Source", "Holds here", "First", "Second", "Effect"]
    headers += ["p, corrected", "Seeds"]
    cells = []
    for one in tested:
        claim = one.claim
        cost = one.effect_name != "difference"
        show = round_count if cost else number
        effect = f"{one.effect_name} {interval(one.effect, signed=not cost)}"
        said = f"{one.verdict} ({one.reason})" if one.reason else one.verdict
        few, other = one.seeds
        seeds = f"{few} pairs" if one.paired else f"{few} and {other}"
        name = f"{claim.method} {claim.relation} {claim.other}"
        cells.append(
            [
                name,
                claim.metric,
                claim.source,
                said,
                show(one.value),
                show(one.other_value),
                effect,
                DASH if math.isnan(one.p) else f"{one.p:.2g}",
                seeds,
            ]
        )
    return headers, cells


def markdown(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in markdown; columns of numbers are not aligned, texts are escaped."""

    def line(entries: Sequence[str]) -> str:
        return "| " + " | ".join(_escape(entry) for entry in entries) + " |"

    return "\n".join([line(headers), "|" + " --- |" * len(headers), *map(line, cells)]) + "\n"


def _escape(text: str) -> str:
    # "[0.1]" after a word would not be a link, but "<b>" would be a tag and "|" a new cell.
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def to_markdown(
    rows: Sequence[Row], tested: Sequence[Tested], threshold: float, notes: Sequence[str]
) -> str:
    """table.md: the main table with the baseline in bold, the claims, the logged metrics."""
    headers, cells = main_table(rows, threshold)
    parts = [markdown(headers, _mark_baseline(rows, cells)), HOW_TO_READ]
    parts += ["".join(f"- {note}\n" for note in notes)] if notes else []
    if tested:
        parts += ["## Orderings claimed\n", markdown(*claim_table(tested))]
    headers, cells = logged_table(rows)
    parts += ["## At the end of training\n", markdown(headers, _mark_baseline(rows, cells))]
    return "\n".join(parts)


def _mark_baseline(rows: Sequence[Row], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [
        [f"**{line[0]}** (baseline)" if row.baseline else line[0], *line[1:]]
        for row, line in zip(rows, cells, strict=True)
    ]


HOW_TO_READ = """\
Accuracy is held out and measured at the end of the budget. Brackets behind a median hold its
interval between two order statistics over seeds, which holds the median of all runs in at least
95 % of cases, whatever their distribution; a mean has none, since a run that collapses in a few
percent of cases may not be among the seeds. "Fell" counts runs that end below where they began.
Differences are within seeds. A verdict needs a p-value of at most 0.05 after Holm's correction
for the number of verdicts, of a permutation test of signed ranks (of ranks where seeds differ).
P(improvement) is the chance that a run of the method ends above one of the baseline
(arXiv:2108.13264). Costs are those of the first evaluation at the threshold; runs that never got
there count as dearer than all others, and "> x" says that the median is more than x. Times were
divided by the number of seeds, which ran side by side.
"""
