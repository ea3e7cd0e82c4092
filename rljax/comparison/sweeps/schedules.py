"""What population-based training has done, for the page: schedules of fields, who copied whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from rljax.comparison.sweeps.fields import Scale, scale_of, short_names
from rljax.comparison.sweeps.lineage import Lineage
from rljax.comparison.sweeps.scores import Condition
from rljax.comparison.sweeps.tables import copies_table, members_table
from rljax.reporting import svg
from rljax.reporting.page import html_table

MOST_SEEDS = 4  # whose schedules are drawn
INSET = 10  # of the outer values from the ends of the axis


def population_section(lineage: Lineage, conditions: Sequence[Condition], metric: str) -> str:
    """Text, a picture of each field and seed, the members at the end, and all copies."""
    best = best_runs(lineage, conditions, metric)
    last = max(_last_step(conditions, metric), *(each.step for each in lineage.generations), 1)
    fields = lineage.rule["fields"]
    names = short_names(fields)
    cards = []
    for index, seed in enumerate(lineage.seeds[:MOST_SEEDS]):
        for field in fields:
            of = f"{names[field]}, seed {seed}"
            drawing = schedule_chart(lineage, field, index, best[index], last)
            cards.append(
                f'<figure class="chart"><figcaption><span class="title">{escape(of)}</span>'
                f'<span class="meaning">{escape(field)} over steps</span></figcaption>'
                f"{drawing}</figure>"
            )
    left = len(lineage.seeds) - MOST_SEEDS
    more = f" The first {MOST_SEEDS} seeds are drawn; lineage.json has all." if left > 0 else ""
    copies = copies_table(lineage, conditions)
    table = (
        f"<details class=more><summary>{len(copies[1])} copies</summary>"
        f"{html_table(*copies)}</details>"
        if copies[1]
        else "<p>No member has copied another one.</p>"
    )
    return (
        f"<p>{escape(about(lineage))}</p><p class=meaning>Grey: the value of each member. Orange: "
        "a member goes on with a copy of another one. Blue: the values that the weights of the "
        f"best member were trained with, whoever had them.{more}</p>"
        f"<div class=charts>{''.join(cards)}</div>"
        f"{html_table(*members_table(lineage, conditions, metric))}{table}"
    )


def about(lineage: Lineage) -> str:
    """What the rule was, what it costs, and what its outcome is."""
    rule, count = lineage.rule, len(lineage.members)
    resample = f", drawn anew with probability {rule['resample']:g}" if rule["resample"] else ""
    return (
        f"{count} members for each seed are judged by {rule['metric']} every {rule['ready']} steps "
        f"({rule['exploit']}); a copy's numbers are multiplied by 0.8 or 1.2{resample}. A "
        f"population costs {count} runs. What it finds is a schedule: a run with the numbers of "
        "the end alone is another run. Members are called after the numbers that they began with."
    )


def best_runs(lineage: Lineage, conditions: Sequence[Condition], metric: str) -> list[int]:
    """For each seed the run whose metric is highest at the end, or, before that, was so last."""
    found = []
    for index, seed in enumerate(lineage.seeds):
        scores = {lineage.members.index(c.name): score_of(c, seed, metric) for c in conditions}
        if all(map(math.isnan, scores.values())) and lineage.generations:
            latest = lineage.generations[-1].scores
            scores = {member: latest[lineage.run(member, index)] for member in scores}
        known = {member: score for member, score in scores.items() if not math.isnan(score)}
        found.append(lineage.run(max(known, key=known.__getitem__, default=0), index))
    return found


def score_of(condition: Condition, seed: int, metric: str) -> float:
    """The metric of a member at the end."""
    return float(condition.scores(metric)[condition.seeds.index(seed)])


def schedule_chart(lineage: Lineage, field: str, seed: int, best: int, last: int) -> str:
    """The SVG text.

    Args:
        lineage: of the population.
        field: whose values are drawn.
        seed: the number of the seed.
        best: the run whose weights' own schedule is drawn on top.
        last: step of the axis.
    """
    runs = [lineage.run(member, seed) for member in range(len(lineage.members))]
    schedules = {run: lineage.schedule(field, run) for run in runs}
    scale = scale_of([value for steps in schedules.values() for _, value in steps])
    axes = svg.Axes((0, last), (0, 1))
    parts = _frame(axes, scale)
    for run in runs:
        d = _stairs(axes, scale, schedules[run])
        parts.append(
            f'<path class="context" d="{d}"><title>'
            f"{escape(lineage.members[run // len(lineage.seeds)])}</title></path>"
        )
    for each in lineage.generations:
        for run in runs:
            if each.sources[run] != run:
                x, y = axes.x(each.step), _y(scale.place(each.values[field][run]))
                parts.append(f'<circle class="dot c1" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    own = lineage.schedule_of_weights(field, best)
    parts.append(f'<path class="line c0" d="{_stairs(axes, scale, own)}"/>')
    label = f"{field} over steps; of the best member: " + ", ".join(
        f"{value:.4g} from step {step}" for step, value in own
    )
    return (
        f'<svg viewBox="0 0 {svg.WIDTH} {svg.HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _last_step(conditions: Sequence[Condition], metric: str) -> int:
    curves = [c for each in conditions for c in each.curves.get(metric, ()) if c is not None]
    return max((int(curve.steps[-1]) for curve in curves), default=0)


def _y(place: float) -> float:
    return svg.BOTTOM - INSET - place * (svg.BOTTOM - svg.TOP - 2 * INSET)


def _frame(axes: svg.Axes, scale: Scale) -> list[str]:
    """Grid and labels: values at the left, steps below."""
    parts = []
    for place, text in scale.marks:
        y = _y(place)
        parts.append(f'<path class="grid" d="M{svg.LEFT} {y:.1f}H{svg.RIGHT}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{svg.LEFT - 7}" y="{y + 4:.1f}">'
            f"{escape(text)}</text>"
        )
    for step in svg.ticks(axes.first, axes.last, 5):
        if step == round(step):
            anchor = "end" if axes.x(step) > svg.RIGHT - 8 else "middle"
            parts.append(
                f'<text class="tick" text-anchor="{anchor}" x="{axes.x(step):.1f}" '
                f'y="{svg.BOTTOM + 17}">{svg.tick_label(step, 1)}</text>'
            )
    return parts


def _stairs(axes: svg.Axes, scale: Scale, schedule: Sequence[tuple[int, float]]) -> str:
    """A path that is level until the value changes."""
    first, *others = schedule
    d = f"M{axes.x(first[0]):.1f} {_y(scale.place(first[1])):.1f}"
    for step, value in others:
        d += f"H{axes.x(step):.1f}V{_y(scale.place(value)):.1f}"
    return f"{d}H{axes.x(axes.last):.1f}"
