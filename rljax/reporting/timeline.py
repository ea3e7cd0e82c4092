"""The timeline of profiled steps: what each thread did when, for Perfetto and for the report.

A phase is one of five kinds: sampling, scoring, transfer of weights, update, and the rest (other).
Where a thread waits for another one (the phase "queue"), and where it is in no phase within a step,
it is idle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from rljax.reporting import files
from rljax.reporting.goodput import WHOLE, label
from rljax.reporting.progress import format_seconds
from rljax.reporting.run_data import Run

LEARNER = "learner"  # the thread that updates
STEPS = "steps"
KINDS = ("sampling", "scoring", "transfer", "update", "other", "idle")
# Idle is what is left blank.
COLOURS = {"sampling": 0, "scoring": 4, "transfer": 6, "update": 2, "other": 7}
MOST_SHOWN = 8  # steps in the report


class Span(NamedTuple):
    """A thread in a phase; seconds since the recording began."""

    track: str
    phase: str
    began: float
    ended: float


class StepSpan(NamedTuple):
    """A step of a stage; seconds since the recording began."""

    stage: str
    step: int
    began: float
    ended: float


def kind_of(phase: str) -> str:
    """Which of `KINDS` a phase is."""
    if phase in COLOURS:
        return phase
    return "idle" if phase == "queue" else "other"


def as_perfetto(steps: Sequence[StepSpan], spans: Sequence[Span]) -> dict[str, Any]:
    """Trace events of complete spans ("ph": "X", microseconds), one track for each thread."""
    tracks = [STEPS, LEARNER, *sorted({span.track for span in spans} - {LEARNER})]
    names = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": track}}
        for number, track in enumerate(tracks)
    ]
    of_steps = [
        {
            **_event(f"{each.stage} {each.step}", "step", 0, each.began, each.ended),
            "args": {"stage": each.stage, "step": each.step},
        }
        for each in steps
    ]
    of_spans = [
        _event(each.phase, kind_of(each.phase), tracks.index(each.track), each.began, each.ended)
        for each in sorted(spans, key=lambda span: (span.began, -span.ended))
    ]
    process = {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "rljax"}}
    return {"traceEvents": [process, *names, *of_steps, *of_spans], "displayTimeUnit": "ms"}


def read_perfetto(found: Mapping[str, Any]) -> tuple[list[StepSpan], list[Span]]:
    """The steps and spans of a file that `as_perfetto` made; what is damaged is left out."""
    events = found.get("traceEvents")
    events = [e for e in events if isinstance(e, Mapping)] if isinstance(events, list) else []
    names = {
        e.get("tid"): str(_arguments(e).get("name"))
        for e in events
        if e.get("name") == "thread_name"
    }
    steps, spans = [], []
    for event in events:
        began, length = files.number(event.get("ts")), files.number(event.get("dur"))
        if event.get("ph") != "X" or began is None or length is None:
            continue
        times = (began / 1e6, (began + length) / 1e6)
        arguments = _arguments(event)
        if event.get("cat") == "step" and isinstance(arguments.get("step"), int):
            steps.append(StepSpan(str(arguments.get("stage")), arguments["step"], *times))
        elif event.get("tid") in names:
            spans.append(Span(names[event["tid"]], str(event.get("name")), *times))
    return steps, spans


def pieces(spans: Iterable[Span], began: float, ended: float) -> list[tuple[str, float]]:
    """What a thread did between two times, in order, as (kind, seconds).

    Where phases lie in each other the inner one counts, but for what an evaluation samples and the
    like; where there is none the thread is idle. The seconds add up to the whole time.
    """
    inside = [
        (max(span.began, began), min(span.ended, ended), span)
        for span in spans
        if span.began < ended and span.ended > began
    ]
    cuts = sorted({began, ended, *(x for first, last, _ in inside for x in (first, last))})
    found: list[tuple[str, float]] = []
    for first, last in zip(cuts, cuts[1:], strict=False):
        over = [span for a, b, span in inside if a <= first and b >= last]
        inner = max(over, key=lambda span: (span.began, -span.ended), default=None)
        whole = any(span.phase in WHOLE for span in over)
        kind = "idle" if inner is None else "other" if whole else kind_of(inner.phase)
        if found and found[-1][0] == kind:
            found[-1] = (kind, found[-1][1] + last - first)
        else:
            found.append((kind, last - first))
    return found


def section(runs: Sequence[Run]) -> str:
    """Bars of the profiled steps, one for each thread; "" where nothing was profiled."""
    bars = []
    for run in runs:
        steps, spans = read_perfetto(run.timeline)
        tracks = [LEARNER, *sorted({span.track for span in spans} - {LEARNER})]
        for step in steps[:MOST_SHOWN]:
            for track in tracks:
                of_track = [span for span in spans if span.track == track]
                name = f"{step.stage} {step.step}, {track}"
                bars.append(_bar(name if len(runs) == 1 else f"{run.name}, {name}", step, of_track))
    if not bars:
        return ""
    legend = "".join(
        f'<li><i class="swatch c{colour}"></i>{kind}</li>' for kind, colour in COLOURS.items()
    )
    return (
        '<section id="timeline"><h2>Timeline</h2><figure class="chart"><figcaption>'
        '<span class="title">What each thread did in the profiled steps</span>'
        '<span class="meaning">From left to right as time went on; blank where the thread was '
        "idle. timeline.json has the same for ui.perfetto.dev, and the folder profile what the "
        f"device did, for xprof.</span></figcaption><div class=bars>{''.join(bars)}</div>"
        f'<ul class="legend">{legend}<li>blank: idle</li></ul></figure></section>'
    )


def _bar(name: str, step: StepSpan, spans: Sequence[Span]) -> str:
    length = step.ended - step.began
    parts, seconds = pieces(spans, step.began, step.ended), defaultdict(float)
    for kind, took in parts:
        seconds[kind] += took
    said = ", ".join(f"{kind} {format_seconds(seconds[kind])}" for kind in KINDS if seconds[kind])
    drawn = "".join(
        f'<i style="width:{100 * took / length:.3f}%;{_fill(kind)}" class="{_colour(kind)}" '
        f'title="{label(kind)}: {format_seconds(took)}"></i>'
        for kind, took in parts
    )
    return (
        f'<div class=bar title="{escape(said)}"><span>{escape(name)}</span>'
        f"<span class=track>{drawn}</span><span>{format_seconds(length)}</span></div>"
    )


def _colour(kind: str) -> str:
    return f"c{COLOURS[kind]}" if kind in COLOURS else ""


def _fill(kind: str) -> str:
    """Idle time is blank, and even a short span is not made wider than it is."""
    return "min-width:0" + ("" if kind in COLOURS else ";background:none")


def _event(name: str, kind: str, track: int, began: float, ended: float) -> dict[str, Any]:
    times = {"ts": round(began * 1e6, 1), "dur": round((ended - began) * 1e6, 1)}
    return {"ph": "X", "name": name, "cat": kind, "pid": 1, "tid": track, **times}


def _arguments(event: Mapping[str, Any]) -> Mapping[str, Any]:
    found = event.get("args")
    return found if isinstance(found, Mapping) else {}
