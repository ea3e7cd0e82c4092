"""A plan as text."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

GIB = 2**30


def print_plan(plan: dict[str, Any], console: Console) -> None:
    """Memory, times and collectives of every phase, and what they add up to."""
    mesh = " ".join(f"{axis}={size}" for axis, size in plan["mesh"].items() if size > 1)
    console.print(
        f"{plan['config']}: {plan['method']}, {counted(plan['parameters'])} parameters, "
        f"{plan['topology']}, {plan['chips']} chips, mesh {mesh or 'of one chip'}"
    )
    for table in tables(plan):
        console.print(table)
    for line in lines(plan):
        console.print(line, soft_wrap=True)


def tables(plan: dict[str, Any]) -> Iterator[Table]:
    """Memory, and the times and collectives of what compiles."""
    yield _memory(plan)
    if any(phase["compiles"] for phase in plan["phases"].values()):
        yield _times(plan)
        yield _collectives(plan)


def lines(plan: dict[str, Any]) -> Iterator[str]:
    """What a plan comes to, in sentences."""
    used, capacity = plan["bytes_per_chip"] / GIB, plan["capacity_bytes"] / GIB
    fits = "fits" if plan["fits"] else "DOES NOT FIT"
    if len(plan["stages"]) > 1:
        yield f"planned: stage {plan['stage']} of {', '.join(plan['stages'])} (--stage)"
    yield f"{fits}: {used:.3g} of {capacity:.0f} GiB per chip at most, in {plan['largest_phase']}"
    if plan["step_seconds"] is not None:
        yield (
            f"step: {plan['step_seconds']:.4g} s at least, {plan['tokens_per_second']:,.0f} "
            f"tokens/s, MFU {plan['mfu']:.1%} at most"
        )
    if "expected_step_seconds" in plan:
        yield (
            f"expected: {plan['expected_step_seconds']:.4g} s a step, by the efficiency of "
            "published runs (--trust)"
        )
    if "cost_per_1000_steps" in plan:
        yield f"cost of 1,000 steps: {plan['cost_per_1000_steps']:,.2f} at least"
    if (most := plan.get("workload", {}).get("sampler_calls", 1)) > 1:
        yield f"sampling: counts {most} times, as a step samples so often at most"
    for name, phase in plan["phases"].items():
        for kernel, count in phase.get("kernels", {}).items():
            yield f"{name}: operations of {kernel} ({count:,.0f} times) are not counted"
        for loop in phase.get("endless", ()):
            yield f"{name}: {loop} has no known end, and is counted once"


def _memory(plan: dict[str, Any]) -> Table:
    made = Table(title="memory of a chip, GiB", title_justify="left")
    for name in ("phase", "arguments", "outputs", "temporaries", "code", "held beside", "all"):
        made.add_column(name, justify="left" if name == "phase" else "right")
    for name, phase in plan["phases"].items():
        parts = [gib(phase.get(kind)) for kind in ("arguments", "outputs", "temporaries", "code")]
        beside = gib(sum(phase["beside"].values()))
        made.add_row(name, *parts, beside, gib(phase["bytes_per_chip"]))
    held = ", ".join(f"{kind} {gib(size)}" for kind, size in plan["resident"].items() if size)
    made.caption = f"held all step long: {held}"
    return made


def _times(plan: dict[str, Any]) -> Table:
    made = Table(title="times, seconds of one run of each program", title_justify="left")
    terms = ("compute", "memory", "links", "network")
    if not any(phase.get("network_seconds") for phase in plan["phases"].values()):
        terms = terms[:-1]
    for name in ("phase", "runs", "TFLOP", "HBM GB", *terms, "bound by"):
        made.add_column(name, justify="left" if name in ("phase", "bound by") else "right")
    for name, phase in plan["phases"].items():
        if not phase["compiles"]:
            continue
        made.add_row(
            name,
            f"{phase['times']:g}",
            f"{phase['flops'] / 1e12:.4g}",
            f"{phase['hbm_bytes'] / 1e9:.4g}",
            *(f"{phase[f'{term}_seconds']:.3g}" for term in terms),
            phase["dominating"],
        )
    return made


def _collectives(plan: dict[str, Any]) -> Table:
    made = Table(title="collectives of one run", title_justify="left")
    for name in ("phase", "kind", "axes", "link", "times", "GB", "seconds"):
        made.add_column(name, justify="left" if name in ("phase", "kind", "axes") else "right")
    for name, phase in plan["phases"].items():
        for each in phase.get("collectives", ()):
            axes, size = " ".join(each["axes"]), f"{each['bytes'] / 1e9:.3g}"
            count, seconds = f"{each['count']:,.0f}", f"{each['seconds']:.3g}"
            made.add_row(name, each["kind"], axes, each["link"], count, size, seconds)
    return made


def counted(number: float) -> str:
    """A number in billions, or in millions where it is below one billion: 8.19 B, 0.821 M."""
    size, unit = (1e9, "B") if number >= 1e9 else (1e6, "M")
    return f"{number / size:.3g} {unit}"


def gib(size: float | None) -> str:
    """Bytes in GiB: two digits behind the point; below 0.1 the first two that are not 0."""
    if size is None:
        return ""
    return f"{size / GIB:.2f}" if size >= 0.1 * GIB or not size else f"{size / GIB:.2g}"
