"""A plan as one HTML file that needs no network: memory, times of every phase, tables."""

from collections.abc import Sequence
from html import escape
from typing import Any

from rich.table import Table

from rljax.planning.bars import STYLE as BARS
from rljax.planning.bars import Bar, bar_figure, bars
from rljax.planning.choices import ahead_lines, ranking, remedy_lines, search_lines
from rljax.planning.table import GIB, lines, tables
from rljax.reporting.page import fill_page, html_table, section, tiles
from rljax.reporting.style import STYLE

# Kinds of memory -> colour; those that are not named here follow in the colours that are left.
COLOURS = {
    "parameters": 0,
    "optimizer": 6,
    "carried": 3,
    "reference": 2,
    "other arguments": 5,
    "outputs": 4,
    "temporaries": 1,
    "code": 7,
}
TERMS = {"compute": 0, "memory": 1, "links": 2, "network": 3}
# What each term of a roofline is.
MEANING = (
    "operations / peak, bytes / bandwidth of HBM, exchanged bytes / bandwidth of links within a "
    "slice, and of the network between slices"
)


def plan_page(plan: dict[str, Any]) -> str:
    """The whole page as text."""
    parts = [
        ("memory", "Memory of a chip", memory_figure(plan)),
        ("times", "Times", times_figure(plan)),
        ("tables", "Tables", "".join(map(as_html, tables(plan)))),
        ("sentences", "In sentences", _sentences([*lines(plan), *choice_lines(plan)])),
        ("search", "Search", as_html(ranking(plan["search"])) if plan.get("search") else ""),
    ]
    parts = [part for part in parts if part[2]]
    return fill_page(
        title=f"{plan['method']} on {plan['topology']}",
        eyebrow="rljax · plan",
        headline=headline(plan),
        links=[(anchor, name) for anchor, name, _ in parts],
        body=[section(*part) for part in parts],
        footer=" ".join([plan["config"], *plan["overrides"]]),
        style=STYLE + BARS,
        script="",
    )


def choice_lines(plan: dict[str, Any]) -> list[str]:
    """What the plan says of other ways, as far as they were looked for (choices.py)."""
    found = search_lines(plan) if plan.get("search") else ()
    return [*ahead_lines(plan), *remedy_lines(plan), *found]


def headline(plan: dict[str, Any]) -> str:
    """What the plan comes to."""
    used, capacity = plan["bytes_per_chip"] / GIB, plan["capacity_bytes"] / GIB
    mesh = " ".join(f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1)
    named = [
        ("Fits" if plan["fits"] else "Does not fit", f"{used:.3g} of {capacity:.0f} GiB"),
        ("Chips", str(plan["chips"])),
        ("Mesh", mesh or "one chip"),
    ]
    if plan["step_seconds"] is not None:
        named += [
            ("Step, at least", f"{plan['step_seconds']:.4g} s"),
            ("Tokens/s, at most", f"{plan['tokens_per_second']:,.0f}"),
            ("MFU, at most", f"{plan['mfu']:.1%}"),
        ]
    if "expected_step_seconds" in plan:
        named.append(("Step, expected", f"{plan['expected_step_seconds']:.4g} s"))
    if "cost_per_1000_steps" in plan:
        named.append(("1,000 steps, at least", f"{plan['cost_per_1000_steps']:,.2f}"))
    return tiles(named)


def memory_parts(phase: dict[str, Any], resident: dict[str, int]) -> list[tuple[str, float]]:
    """What lies in a chip's memory in a phase: (kind, bytes), nothing twice.

    Args:
        phase: of a plan.
        resident: what the run holds all step long, by kind: among a program's arguments, or beside
            it.
    """
    beside = phase["beside"]
    if not phase["compiles"]:
        return [*beside.items(), ("refused by the compiler", phase["bytes"])]
    taken = {kind: size for kind, size in resident.items() if kind not in beside}
    named = {kind: beside.get(kind, size) for kind, size in resident.items()}
    named["other arguments"] = max(phase["arguments"] - sum(taken.values()), 0)
    named |= {kind: phase[kind] for kind in ("outputs", "temporaries", "code")}
    return [(kind, float(size)) for kind, size in named.items() if size > 0]


def memory_figure(plan: dict[str, Any]) -> str:
    """A stacked bar for each phase, against the capacity."""
    phases = {name: memory_parts(phase, plan["resident"]) for name, phase in plan["phases"].items()}
    colours = _colours([kind for parts in phases.values() for kind, _ in parts])
    rows = [
        Bar(
            name,
            [(kind, size / GIB, colours[kind]) for kind, size in parts],
            f"{sum(size for _, size in parts) / GIB:.2f}",
        )
        for name, parts in phases.items()
    ]
    capacity = plan["capacity_bytes"] / GIB
    drawing = bars(
        rows,
        "Memory of a chip in each phase",
        "GiB",
        limit=capacity,
        limit_name=f"capacity {capacity:.0f}",
    )
    meaning = (
        "In each phase. What a program does not read but the run holds counts too; gradients, "
        "activations and caches are among the temporaries."
    )
    return bar_figure("GiB by kind", meaning, drawing, list(colours.items()))


def times_figure(plan: dict[str, Any]) -> str:
    """The terms of the roofline of each phase, all its runs in a step; "" if none compiles."""
    rows = []
    for name, phase in plan["phases"].items():
        if not phase["compiles"]:
            continue
        for term, colour in TERMS.items():
            seconds = phase[f"{term}_seconds"] * phase["times"]
            bound = ", bounds it" if term == phase["dominating"] else ""
            label = name if term == "compute" else ""
            rows.append(Bar(label, [(term, seconds, colour)], f"{seconds:.3g} s{bound}"))
    if not rows:
        return ""
    drawing = bars(rows, "Least seconds of each phase by what bounds it", "s")
    meaning = f"What each term would take alone in a step: {MEANING}."
    return bar_figure("Seconds by what bounds them", meaning, drawing, list(TERMS.items()))


def as_html(table: Table) -> str:
    """A table for the terminal as one of the page, opened by a click."""
    headers = [str(column.header) for column in table.columns]
    cells = list(zip(*(map(str, column.cells) for column in table.columns), strict=True))
    caption = f"<p class=meaning>{escape(str(table.caption))}</p>" if table.caption else ""
    return (
        f"<details class=more open><summary>{escape(str(table.title))}</summary>"
        f"{html_table(headers, cells)}{caption}</details>"
    )


def _sentences(said: Sequence[str]) -> str:
    items = "".join(
        f"<li{' class=doubt' * (' not ' in line.lower())}>{escape(line)}</li>" for line in said
    )
    return f"<ul>{items}</ul>"


def _colours(kinds: Sequence[str]) -> dict[str, int]:
    """Kind -> colour, no two alike as long as there are enough."""
    found: dict[str, int] = {}
    for kind in dict.fromkeys(kinds):
        wanted = COLOURS.get(kind)
        free = [number for number in range(8) if number not in found.values()]
        found[kind] = wanted if wanted in free or not free else free[0]
    return found
