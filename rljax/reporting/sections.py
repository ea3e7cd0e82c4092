"""The parts of the report as HTML text. Everything that comes from a run is escaped here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from rljax.reporting import files, svg
from rljax.reporting.glossary import FAMILIES, TIME_PARTS, describe, is_share, sort_names
from rljax.reporting.progress import format_seconds, format_value
from rljax.reporting.run_data import Curve, Run, flatten

# What charts are folded into that are not in a stage's first grid.
UPDATES, REST = "Inside the updates", "Everything else"

TIME_COLOURS = {"sampling": 0, "scoring": 4, "update": 2, "evaluation": 3, "other": 7}


@dataclasses.dataclass
class Chart:
    """One chart before it is drawn."""

    title: str
    meaning: str
    main: bool
    series: list[svg.Series]
    share: bool = True  # only shares are drawn: the axis stays within [0, 1]
    folder: str = ""  # title of what it is folded into, unless it is a main one
    hints: list[str] = dataclasses.field(default_factory=list)  # what each line means

    @property
    def is_curve(self) -> bool:
        """Whether a line has more than one point."""
        return any(len(line.steps) > 1 for line in self.series)


class Figures:
    """Draws charts and collects the data that the page's script reads values from."""

    def __init__(self) -> None:
        self.hover: list[dict[str, Any]] = []

    def card(self, chart: Chart, *, legend: bool) -> str:
        label = f"{chart.title}: " + "; ".join(_trend(line) for line in chart.series)
        drawing, hover, note = svg.line_chart(chart.series, label, share=chart.share)
        entries = [(line.name, line.colour) for line in chart.series] if legend else []
        last = (
            ""
            if len(chart.series) > 1
            else format_value(float(chart.series[0].values[-1])).replace("-", "−")
        )
        hints = chart.hints if legend else ()
        return self.figure(chart.title, chart.meaning, last, drawing, hover, note, entries, hints)

    def figure(
        self,
        title: str,
        meaning: str,
        last: str,
        drawing: str,
        hover: dict[str, Any],
        note: str,
        entries: Sequence[tuple[str, int]],
        hints: Sequence[str] = (),
    ) -> str:
        self.hover.append(hover)
        return (
            f'<figure class="chart" tabindex="0" data-chart="{len(self.hover) - 1}">'
            f'<figcaption><span class="title">{escape(title)}</span>'
            f'<span class="last">{escape(last)}</span>'
            f'<span class="meaning">{escape(meaning)}</span></figcaption>'
            f"{drawing}{legend(entries, hints)}{f'<p class=cut>{escape(note)}</p>' if note else ''}"
            "</figure>"
        )


def _trend(line: svg.Series) -> str:
    first, last = (format_value(float(value)) for value in (line.values[0], line.values[-1]))
    return f"{line.name} from {first} to {last}"


def legend(entries: Sequence[tuple[str, int]], hints: Sequence[str] = ()) -> str:
    """A list of (name, colour); each with a hint for the pointer where `hints` are given."""
    if not entries:
        return ""
    items = "".join(
        f'<li title="{escape(hint)}">'
        f'<i class="swatch c{colour % svg.COLOURS}{" dashed" * (colour >= svg.COLOURS)}"></i>'
        f"{escape(name)}</li>"
        for (name, colour), hint in zip(entries, hints or [""] * len(entries), strict=True)
    )
    return f'<ul class="legend">{items}</ul>'


def headline(runs: Sequence[Run]) -> str:
    """The final figures: large for one run, a table for several."""
    return _headline_one(runs[0]) if len(runs) == 1 else _headline_table(runs)


def _accuracy(run: Run, moment: str) -> float | None:
    """The held-out accuracy of the summary; while it is missing, the first or last one logged."""
    found = files.number(run.summary.get(f"heldout_accuracy_{moment}"))
    if found is not None or run.complete:
        return found
    curves = [
        s.heldout["accuracy_greedy"] for s in run.stages.values() if "accuracy_greedy" in s.heldout
    ]
    if not curves or (moment == "after" and sum(len(curve.steps) for curve in curves) < 2):
        return None
    return float(curves[0].values[0] if moment == "before" else curves[-1].values[-1])


def after_class(before: float | None, after: float | None) -> str:
    """The style of the accuracy at the end: it fell, it rose, or neither is known."""
    if before is None or after is None or before == after:
        return "after"
    return "after rise" if after > before else "after drop"


def _headline_one(run: Run) -> str:
    tiles = []
    before, after = _accuracy(run, "before"), _accuracy(run, "after")
    if before is not None or after is not None:
        figures = " <span class=arrow>→</span> ".join(
            f"<span class='{name}'>{value:.3f}</span>"
            for name, value in (("before", before), (after_class(before, after), after))
            if value is not None
        )
        tiles.append(f"<div class='tile hero'><dt>Held-out accuracy</dt><dd>{figures}</dd></div>")
    wall = files.number(run.summary.get("wall_seconds"))
    small = [("Wall time", format_seconds(wall))] if wall is not None else []
    small += [(name, f"{stage.last_step:,} steps") for name, stage in run.stages.items()]
    skipped = {"heldout_accuracy_before", "heldout_accuracy_after", "wall_seconds", "stages"}
    small += [
        (name.replace("_", " ").capitalize(), format_value(value))
        for name, value in run.summary.items()
        if name not in skipped and not isinstance(value, Mapping | list)
    ][:8]
    tiles += [
        f"<div class=tile><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in small
    ]
    return f"<dl class=tiles>{''.join(tiles)}</dl>"


def _headline_table(runs: Sequence[Run]) -> str:
    rows = []
    for index, run in enumerate(runs):
        before, after = _accuracy(run, "before"), _accuracy(run, "after")
        gain = None if before is None or after is None else after - before
        wall = files.number(run.summary.get("wall_seconds"))
        cells = [
            format_value(before),
            f"<b class='{after_class(before, after)}'>{format_value(after)}</b>",
            "–" if gain is None else f"{gain:+.3f}".replace("-", "−"),
            "–" if wall is None else format_seconds(wall),
            escape(format_value(run.summary.get("seed", flatten(run.config).get("seed")))),
            ", ".join(f"{escape(n)} {stage.last_step}" for n, stage in run.stages.items()),
        ]
        name = f'<i class="swatch c{index % svg.COLOURS}"></i>{escape(run.name)}{badge(run)}'
        rows.append(f"<tr><th scope=row>{name}</th><td>{'</td><td>'.join(cells)}</td></tr>")
    head = "".join(
        f"<th scope=col>{title}</th>"
        for title in ("Run", "Held-out before", "After", "Change", "Wall time", "Seed", "Steps")
    )
    return (
        f"<div class=scroll><table class='figures head'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def badge(run: Run) -> str:
    return "" if run.complete else " <span class='badge running'>not finished</span>"


def stage_names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.stages))


def stage_section(name: str, runs: Sequence[Run], figures: Figures) -> str:
    """The charts of one stage: the main ones in a grid, the others folded in two parts."""
    members = [(index, run) for index, run in enumerate(runs) if name in run.stages]
    steps = max(run.stages[name].last_step for _, run in members)
    seconds = sum(_total_seconds(run, name) for _, run in members)
    facts = f"{steps:,} steps"
    if seconds and len(runs) == 1:
        facts += f" · {format_seconds(seconds)}"
    charts = stage_charts(name, members, len(runs) > 1)
    cards = [
        figures.card(chart, legend=len(runs) == 1 and len(chart.series) > 1) for chart in charts
    ]
    main = [card for card, chart in zip(cards, charts, strict=True) if chart.main]
    folded: dict[str, list[str]] = {UPDATES: [], REST: []}
    for card, chart in zip(cards, charts, strict=True):
        if not chart.main:
            folded[chart.folder].append(card)
    main += time_cards(name, members, figures, len(runs) > 1)
    if not main:  # a stage of unknown metrics only
        main, folded[REST] = folded[REST], []
    run_legend = legend([(run.name, index) for index, run in members]) if len(runs) > 1 else ""
    details = "".join(
        f"<details class=more><summary>{title} <span>{len(rest)} more</span></summary>"
        f"<div class=charts>{''.join(rest)}</div></details>"
        for title, rest in folded.items()
        if rest
    )
    return (
        f'<section id="stage-{stage_names(runs).index(name)}"><h2><small>stage</small> '
        f"{escape(name)} <span class=facts>{escape(facts)}</span></h2>{run_legend}"
        f"<div class=charts>{''.join(main)}</div>{details}</section>"
    )


def stage_charts(name: str, members: Sequence[tuple[int, Run]], compare: bool) -> list[Chart]:
    """Every metric of the stage as a chart. Families share one unless runs are compared."""
    found: dict[tuple[str, str], Chart] = {}
    for kind in ("heldout", "train", "timing"):
        curves = [(index, run.name, getattr(run.stages[name], kind)) for index, run in members]
        metrics = {metric for _, _, named in curves for metric in named}
        if kind == "timing":
            metrics -= {m for m in metrics if m in TIME_PARTS or m.startswith("seconds/")}
        for metric in sort_names(metrics):
            about = describe(metric)
            family = "" if compare else about.family
            title = family or about.label
            if kind == "heldout" and not about.family:
                title = f"Held-out {title[:1].lower()}{title[1:]}"
            # A training metric that the evaluation measures too is no headline there.
            main = about.main and (kind != "heldout" or bool(about.family))
            chart = found.setdefault(
                (kind, title), Chart(title, FAMILIES[family] if family else about.meaning, main, [])
            )
            chart.folder = UPDATES if about.updates else REST
            chart.share = chart.share and is_share(metric)
            for index, run_name, named in curves:
                if metric in named:
                    line_name, colour = (
                        (run_name, index) if compare else (about.label, len(chart.series))
                    )
                    curve: Curve = named[metric]
                    chart.hints.append(about.meaning)
                    chart.series.append(svg.Series(line_name, curve.steps, curve.values, colour))
    # A single point says little: the first charts are curves.
    return sorted(found.values(), key=lambda chart: not chart.is_curve)


def _total_seconds(run: Run, stage: str) -> float:
    timing = run.stages[stage].timing
    return float(sum(np.nansum(timing[part].values) for part in TIME_PARTS if part in timing))


def time_layers(timing: Mapping[str, Curve]) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """(steps, [(part, seconds at each step)]) of the parts that took any time."""
    present = [part for part in TIME_PARTS if part in timing and np.nansum(timing[part].values) > 0]
    if not present:
        return np.array([], dtype=np.int64), []
    steps = np.unique(np.concatenate([timing[part].steps for part in present]))
    layers = []
    for part in present:
        seconds = np.zeros(len(steps))
        seconds[np.searchsorted(steps, timing[part].steps)] = np.nan_to_num(timing[part].values)
        layers.append((part, seconds))
    return steps, layers


def time_meaning(parts: Iterable[str]) -> str:
    """What the parts of a step's time hold, for those whose name does not say it all."""
    text = TIME_PARTS["update"]
    return f"Update: {text[:1].lower()}{text[1:]}" if "update" in parts else ""


def time_cards(
    name: str, members: Sequence[tuple[int, Run]], figures: Figures, compare: bool
) -> list[str]:
    """Where the time of a step goes: areas over the steps, or one bar per compared run."""
    split = [(run, *time_layers(run.stages[name].timing)) for _, run in members]
    split = [entry for entry in split if entry[2]]
    if not split:
        return []
    if compare:
        return [_time_bars(split)]
    _, steps, layers = split[0]
    total = np.sum([seconds for _, seconds in layers], axis=0)
    coloured = [(part, seconds, TIME_COLOURS[part]) for part, seconds in layers]
    shares = [(part, seconds.sum() / total.sum()) for part, seconds in layers]
    label = "Seconds per step: " + ", ".join(f"{part} {share:.0%}" for part, share in shares)
    drawing, hover, note = svg.stacked_chart(steps, coloured, label)
    entries = [(f"{part} {share:.0%}", TIME_COLOURS[part]) for part, share in shares]
    last = f"median {format_seconds(float(np.median(total)))}"
    meaning = f"Seconds; shares of the whole stage. {time_meaning(part for part, _ in layers)}"
    hints = [TIME_PARTS[part] for part, _ in layers]
    return [figures.figure("Time per step", meaning, last, drawing, hover, note, entries, hints)]


def _time_bars(split: Sequence[tuple[Run, np.ndarray, list[tuple[str, np.ndarray]]]]) -> str:
    means = [[(part, float(s.mean())) for part, s in layers] for _, _, layers in split]
    longest = max(sum(seconds for _, seconds in parts) for parts in means)
    rows = []
    for (run, _, _), parts in zip(split, means, strict=True):
        pieces = "".join(
            f'<i class="c{TIME_COLOURS[part]}" style="width:{100 * seconds / longest:.2f}%" '
            f'title="{part}: {format_seconds(seconds)} per step"></i>'
            for part, seconds in parts
        )
        total = sum(seconds for _, seconds in parts)
        rows.append(
            f"<div class=bar><span>{escape(run.name)}</span><span class=track>{pieces}</span>"
            f"<span>{format_seconds(total)}</span></div>"
        )
    used = dict.fromkeys(part for parts in means for part, _ in parts)
    entries = [(part, TIME_COLOURS[part]) for part in used]
    hints = [TIME_PARTS[part] for part in used]
    return (
        '<figure class="chart"><figcaption><span class="title">Time per step</span>'
        '<span class="meaning">Mean seconds of a step and where they went. '
        f"{escape(time_meaning(used))}</span></figcaption>"
        f"<div class=bars>{''.join(rows)}</div>{legend(entries, hints)}</figure>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "<span class=none>–</span>"
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def field_table(
    names: Sequence[str], trees: Sequence[Mapping[str, Any]], *, only_differing: bool
) -> str:
    """A table of dotted fields, one column per run; one column in all where they agree."""
    flat = [flatten(tree) for tree in trees]
    fields = list(dict.fromkeys(field for tree in flat for field in tree))
    missing = object()
    differing = [
        f for f in fields if any(t.get(f, missing) != flat[0].get(f, missing) for t in flat)
    ]
    shown = differing if only_differing else fields
    if not shown:
        return ""
    rows = []
    for field in shown:
        if field in differing or len(flat) == 1:
            cells = "".join(f"<td>{_cell(tree.get(field))}</td>" for tree in flat)
        else:
            cells = f"<td colspan={len(flat)}>{_cell(flat[0].get(field))}</td>"
        rows.append(f"<tr><th scope=row>{escape(field)}</th>{cells}</tr>")
    head = ""
    if len(flat) > 1:
        columns = "".join(
            f'<th scope=col><i class="swatch c{index % svg.COLOURS}"></i>{escape(name)}</th>'
            for index, name in enumerate(names)
        )
        head = f"<thead><tr><th scope=col>Field</th>{columns}</tr></thead>"
    return (
        f"<div class=scroll><table class=fields>{head}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def config_section(runs: Sequence[Run]) -> str:
    """What differs between compared runs; the whole config, folded."""
    names, configs = [run.name for run in runs], [run.config for run in runs]
    if not any(configs):
        return ""
    parts = []
    if len(runs) > 1:
        table = field_table(names, configs, only_differing=True)
        total = len({field for config in configs for field in flatten(config)})
        parts.append(table or "<p>The configs of these runs are the same in every field.</p>")
        if table:
            parts.append(
                f"<p class=meaning>Only fields that differ are listed, out of {total}.</p>"
            )
    whole = field_table(names, configs, only_differing=False)
    parts.append(f"<details class=more><summary>The whole config</summary>{whole}</details>")
    title = "What differs" if len(runs) > 1 else "Config"
    return f'<section id="config"><h2>{title}</h2>{"".join(parts)}</section>'


def environment_section(runs: Sequence[Run]) -> str:
    """Versions, devices, hashes; and every figure of the summaries, folded."""
    names = [run.name for run in runs]
    table = field_table(names, [run.environment for run in runs], only_differing=False)
    whole = field_table(names, [run.summary for run in runs], only_differing=False)
    parts = [table or "<p>These runs hold no run.json.</p>"]
    if whole:
        parts.append(f"<details class=more><summary>All final figures</summary>{whole}</details>")
    return f'<section id="environment"><h2>Environment</h2>{"".join(parts)}</section>'


ROLLOUT_SECTION = """\
<section id="rollouts"><h2>Rollouts</h2>
<p class=meaning>Samples of a group by falling reward. Colour shows how surprising a token was to
the policy that sampled it; point at a token for its numbers.</p>
<noscript><p>The rollout viewer needs JavaScript.</p></noscript>
<div id="viewer"></div></section>"""
