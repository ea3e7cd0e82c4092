"""Goodput: the share of a run's wall time in which it learned, and where the rest went.

Every moment of every process of a run belongs to one phase (training/run/phases.py), so the shares
add up to 1. Time that a process spent after the last checkpoint that counts belongs to `restart`,
whatever was done in it: the work was lost with the process, and is done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from rljax.reporting import files, svg
from rljax.reporting.progress import format_seconds
from rljax.reporting.run_data import Run

USEFUL = "update"

# Phase -> what it holds, in the order of tables and bars; the useful one first.
PHASES: dict[str, str] = {
    "update": "Useful: batches, passes for old and reference log-probabilities, gradient steps.",
    "sampling": "The learner waits for rollouts.",
    "scoring": "The learner waits for rewards.",
    "transfer": "The learner hands weights to a sampler.",
    "queue": "The learner waits for a sampler that runs ahead.",
    "experience": "Everything else that experience needs: reading data, prompts, annotators.",
    "evaluation": "Held-out problems.",
    "checkpoint": "Copying the state, and waiting until files are written.",
    "self_check": "Checks of a stage's first step.",
    "compile": "Tracing and compiling programs, wherever they are needed first.",
    "restore": "Reading or drawing what a stage goes on from.",
    "start": "Imports, config, data, tokenizer, hashes, until the first stage.",
    "restart": "Work of killed processes after their last checkpoint: it is done again.",
    "log": "Metrics, rollouts and the report.",
    "other": "Everything else.",
}


# All that happens in them is theirs: a held-out evaluation samples and scores, too.
WHOLE = ("evaluation", "self_check", "restore", "checkpoint")

# As in the charts of the stages; those beyond the palette are dashed.
COLOURS = {
    **{"sampling": 0, "compile": 1, "update": 2, "evaluation": 3, "scoring": 4, "checkpoint": 5},
    **{"restart": 6, "other": 7, "queue": 8, "start": 9, "experience": 10, "restore": 11},
    **{"log": 12, "self_check": 13, "transfer": 14},
}


def goodput(seconds: Mapping[str, float]) -> float:
    """The useful share of the time, in [0, 1]; 0 of no time."""
    total = sum(seconds.values())
    return seconds.get(USEFUL, 0.0) / total if total > 0 else 0.0


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """The share of each phase that took any time; together they are 1."""
    total = sum(seconds.values())
    return {name: seconds[name] / total for name in PHASES if seconds.get(name, 0.0) > 0}


def figures(seconds: Mapping[str, float], starts: int) -> dict[str, object]:
    """What summary.json and goodput.json say.

    Args:
        seconds: by phase, over all starts of the run.
        starts: how often the run was started, the first time too.
    """
    return {
        "share": goodput(seconds),
        "starts": starts,
        "seconds": {name: seconds[name] for name in PHASES if seconds.get(name, 0.0) > 0},
        "shares": shares(seconds),
    }


def as_line(found: Mapping[str, object]) -> str:
    """ "41 % (sampling 30 %, compile 20 %, ...; 3 starts)", causes of 1 % and more."""
    seconds, starts = known_seconds(found), int(files.number(found.get("starts")) or 1)
    causes = sorted(((share, name) for name, share in shares(seconds).items()), reverse=True)
    listed = [f"{label(name)} {x:.0%}" for x, name in causes if name != USEFUL and x >= 0.01]
    rest = ", ".join(listed) + (f"; {starts} starts" if starts > 1 else "")
    return f"{goodput(seconds):.0%} ({rest})"


def section(runs: Sequence[Run]) -> str:
    """One bar of shares for each run, with caption and legend; "" where nothing is known."""
    of_runs = [(run, known_seconds(run.goodput)) for run in runs]
    known = [(run, seconds) for run, seconds in of_runs if sum(seconds.values())]
    if not known:
        return ""
    rows = "".join(_bar(run, seconds, alone=len(runs) == 1) for run, seconds in known)
    present = [name for name in PHASES if any(seconds[name] > 0 for _, seconds in known)]
    of_all = shares(known[0][1]) if len(runs) == 1 else {}
    legend = "".join(
        f'<li title="{escape(PHASES[name])}"><i class="swatch {_colour(name)}"></i>'
        f"{label(name)}{f' {of_all[name]:.1%}' if name in of_all else ''}</li>"
        for name in present
    )
    return (
        '<section id="goodput"><h2>Goodput</h2><figure class="chart"><figcaption>'
        '<span class="title">Where the wall time went</span><span class="meaning">Share of the '
        "time of a run, over all its starts, in which the model was updated "
        "(update), and causes of the rest. Restart is work that was lost with a killed process. "
        f"</span></figcaption><div class=bars>{rows}</div>"
        f'<ul class="legend">{legend}</ul></figure></section>'
    )


def known_seconds(found: Mapping[str, object]) -> dict[str, float]:
    """Seconds by phase out of goodput.json; zeros where it says nothing."""
    seconds = found.get("seconds")
    seconds = seconds if isinstance(seconds, Mapping) else {}
    return {name: max(0.0, files.number(seconds.get(name)) or 0.0) for name in PHASES}


def label(phase: str) -> str:
    """The name of a phase as it is shown."""
    return phase.replace("_", " ")


def _bar(run: Run, seconds: Mapping[str, float], *, alone: bool) -> str:
    total, starts = sum(seconds.values()), files.number(run.goodput.get("starts")) or 1
    of = f" of {int(starts)} starts" if starts > 1 else ""
    pieces = "".join(
        f'<i class="{_colour(name)}" style="width:{100 * share:.3f}%" '
        f'title="{label(name)}: {format_seconds(seconds[name])}, {share:.1%}"></i>'
        for name, share in shares(seconds).items()
    )
    name = f"{format_seconds(total)}{of}" if alone else f"{run.name}, {format_seconds(total)}{of}"
    return (
        f"<div class=bar><span>{escape(name)}</span><span class=track>{pieces}</span>"
        f"<span>{goodput(seconds):.1%}</span></div>"
    )


def _colour(phase: str) -> str:
    number = COLOURS[phase]
    return f"c{number % svg.COLOURS}{' dashed' * (number >= svg.COLOURS)}"
