"""The tables of a sweep as rows: conditions, all metrics, effects, single cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rljax.comparison.sweeps.cells import text_of
from rljax.comparison.sweeps.effects import Effect
from rljax.comparison.sweeps.fields import short_cells, short_names, shown_value, swept
from rljax.comparison.sweeps.lineage import Lineage, copies
from rljax.comparison.sweeps.scores import Condition, metrics_of
from rljax.comparison.table import DASH, interval, markdown, number

Table = tuple[list[str], list[list[str]]]


def main_table(
    conditions: Sequence[Condition], fields: Sequence[str], metric: str, *, change: bool = False
) -> Table:
    """A line for each condition in the order given: its fields, the metric, how it ended.

    With `change` the fields do so on the way, and the table says what they begin with.
    """
    names = {field: name + " at step 0" * change for field, name in short_names(fields).items()}
    headers = ["Cell", *(names[field] for field in fields)]
    headers += [f"{metric}, median [95 %]", "Lowest to highest", "Seeds", "State"]
    short = short_cells([each.name for each in conditions], fields)
    cells = []
    for each in conditions:
        scores = each.scores(metric)
        known = scores[np.isfinite(scores)]
        ends = (number(float(end)) for end in (known.min(), known.max())) if len(known) else ()
        cells.append(
            [
                short[each.name],
                *(shown_value(each.values.get(field)) for field in fields),
                interval(each.estimate(metric)),
                " to ".join(ends) or DASH,
                f"{len(known)} of {len(each.seeds)}",
                state(each),
            ]
        )
    return headers, cells


def state(condition: Condition) -> str:
    """How the cells of a condition have ended."""
    found = Counter(end.state for end in condition.ends)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {name}" for name, count in found.items())


def metrics_table(conditions: Sequence[Condition], fields: Sequence[str]) -> Table:
    """Every metric of every condition at the end: median over seeds with its interval."""
    headers = ["Metric", *short_cells([each.name for each in conditions], fields).values()]
    return headers, [
        [metric, *(interval(each.estimate(metric)) for each in conditions)]
        for metric in metrics_of(conditions)
    ]


def effects_table(effects: Sequence[Effect]) -> Table:
    """What each field does."""
    headers = ["Field", "Median of the metric by value", "Spread", "Variance explained"]
    return headers, [
        [
            each.field,
            ", ".join(f"{text}: {number(value)}" for text, value in each.medians.items()),
            number(each.spread),
            DASH if np.isnan(each.explained) else f"{100 * each.explained:.0f} %",
        ]
        for each in effects
    ]


def failures_table(conditions: Sequence[Condition]) -> Table:
    """Cells that failed or were stopped, and why."""
    return ["Cell", "Seed", "State", "Why"], [
        [each.name, str(seed), end.state, end.why]
        for each in conditions
        for seed, end in zip(each.seeds, each.ends, strict=True)
        if end.why
    ]


def copies_table(lineage: Lineage, conditions: Sequence[Condition]) -> Table:
    """Who has copied whom in a population, and the numbers from there on."""
    fields = lineage.rule["fields"]
    names = short_names(fields)
    short = short_cells(lineage.members, swept(conditions))
    headers = ["Step", "Seed", "Member", "Its score", "Copies", "Whose score", *names.values()]
    return headers, [
        [
            *(str(each.step), str(each.seed), short[each.member], number(each.score)),
            *(short[each.source], number(each.source_score)),
            *("{:.4g} ({})".format(*each.changes[field]) for field in fields),
        ]
        for each in copies(lineage)
    ]


def members_table(lineage: Lineage, conditions: Sequence[Condition], metric: str) -> Table:
    """The members at the end, the best of each seed first, and where their weights come from."""
    fields = lineage.rule["fields"]
    names = short_names(fields)
    short = short_cells(lineage.members, swept(conditions))
    headers = ["Member", "Seed", metric, *(f"{name} at the end" for name in names.values())]
    headers.append("Its weights were those of")
    cells = []
    for index, seed in enumerate(lineage.seeds):
        scored = [(each, float(each.scores(metric)[each.seeds.index(seed)])) for each in conditions]
        for each, score in sorted(scored, key=lambda pair: -np.nan_to_num(pair[1], nan=-np.inf)):
            run = lineage.run(lineage.members.index(each.name), index)
            ends = (f"{lineage.schedule(field, run)[-1][1]:.4g}" for field in fields)
            *before, _ = lineage.ancestors(run)
            line = "; then ".join(
                f"{short[lineage.members[holder // len(lineage.seeds)]]} until step {step}"
                for step, holder in before
            )
            cells.append([short[each.name], str(seed), number(score), *ends, line or "itself"])
    return headers, cells


def flat_conditions(conditions: Sequence[Condition], fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of table.csv: the median of every metric with its interval."""
    rows = []
    for rank, each in enumerate(conditions, 1):
        row: dict[str, Any] = {"rank": rank, "cell": each.name, "state": state(each)}
        row |= {"seeds": len(each.seeds)}
        row |= {field: text_of(each.values.get(field)) for field in fields}
        for metric in metrics_of(conditions):
            found = each.estimate(metric)
            row |= {metric: found.value, f"{metric} low": found.low, f"{metric} high": found.high}
        rows.append(row)
    return rows


def flat_cells(conditions: Sequence[Condition], fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of cells.csv: every seed of every condition, with every metric at the end."""
    rows = []
    for each in conditions:
        scores = {metric: each.scores(metric) for metric in metrics_of(conditions)}
        for index, (seed, end) in enumerate(zip(each.seeds, each.ends, strict=True)):
            row: dict[str, Any] = {"cell": each.name, "seed": seed, "state": end.state}
            row |= {field: text_of(each.values.get(field)) for field in fields}
            row |= {metric: float(values[index]) for metric, values in scores.items()}
            rows.append(row | {"why": end.why})
    return rows


def to_markdown(title: str, how: str, parts: Sequence[tuple[str, Table]], best: str) -> str:
    """table.md; `how` says what the numbers mean."""
    text = [f"# {title}", best]
    for heading, (headers, cells) in parts:
        if cells:
            text += [f"## {heading}", markdown(headers, cells)]
    text.append(how)
    return "\n\n".join(part.strip("\n") for part in text) + "\n"


def how_to_read(metric: str, *, change: bool = False) -> str:
    """What the numbers mean; with `change` fields do so on the way, and have no effect shown."""
    effect = (
        " The effect of a field is that over the conditions that ran, whatever their other fields "
        "were."
    )
    return (
        f"Cells are ranked by the median of {metric} over seeds; complete ones come first. "
        "Held-out metrics are those of the last evaluation, training metrics means over the last "
        "tenth of the steps. Brackets hold the 95 % interval of the median, which needs six "
        "seeds. The best of many cells is partly lucky: run it again with other seeds before you "
        f"believe its number.{'' if change else effect}"
    )
