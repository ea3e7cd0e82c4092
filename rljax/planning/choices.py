"""What else could be done, as text: a sampler ahead, what would fit, the search's ranking."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from rljax.planning.search import agreement

GIB = 2**30


def print_choices(plan: Mapping[str, Any], console: Console) -> None:
    """Prints what a plan says of other ways, as far as they were looked for."""
    for line in (*ahead_lines(plan), *remedy_lines(plan)):
        console.print(line, soft_wrap=True)
    if plan.get("search"):
        console.print(ranking(plan["search"]))
        for line in search_lines(plan):
            console.print(line, soft_wrap=True)


def ahead_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """Both ways of a step, and the split of the chips."""
    ahead, chips = plan.get("ahead"), plan["chips"]
    if plan.get("step_seconds_synchronous") is not None and ahead is not None:
        yield f"in turn on {chips} chips: {plan['step_seconds_synchronous']:.4g} s a step"
    if ahead is None or plan.get("step_seconds_ahead") is None:
        return
    count = ahead["sampler_devices"]
    how = {
        "estimated": "estimated from the phases on all chips; --ahead=1 compiles it",
        "compiled": "compiled for both parts",
    }[ahead["how"]]
    needs = "" if plan["workload"]["stale"] else "; the run needs max_staleness >= 1"
    yield (
        f"with the sampler ahead on {count} of {chips} chips: {plan['step_seconds_ahead']:.4g} s a "
        f"step ({how}{needs})"
    )
    for split in _splits(plan):
        yield (
            f"  trainer: {split['trainer']}; sampler: {split['sampler']}; "
            f"{split['bytes'] / 1e9:.3g} GB of weights over {split['links']} links"
        )
    for row in ahead["rows"]:
        if row["sides"]:
            sides = ", ".join(
                f"{name} {row['sides'][name]:.4g} s" for name in ("trainer", "sampler", "transfer")
            )
            fits = "fits" if row["fits"] else "does not fit"
            yield f"  {' '.join(row['overrides'])}: {sides}, {fits}"


def _splits(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The best split, where it was compiled."""
    ahead = plan["ahead"]
    found = [plan["split"], *(row["split"] for row in ahead["rows"])]
    best = [each for each in found if each and each["sampler_devices"] == ahead["sampler_devices"]]
    return best[:1]


def remedy_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """What would fit, and what was tried."""
    found = plan.get("remedy")
    if found is None:
        return
    for each in found["tries"]:
        sizes = ", ".join(
            f"{name} {size / GIB:.2f}" for name, size in each["bytes_per_chip"].items()
        )
        yield f"tried: {' '.join(each['overrides'])}: {sizes} GiB"
    if found["overrides"] is None:
        tries = len(found["tries"])
        yield f"nothing that fits was found in {tries} tries (--tries, or another --topology)"
    else:
        yield f"it would fit with: {' '.join(found['overrides'])}"
        yield "only phases that did not fit were compiled again: plan once more with these words"


def ranking(rows: list[Mapping[str, Any]]) -> Table:
    """The layouts of a search, the best first."""
    made = Table(title="layouts, the best first", title_justify="left")
    names = ("mesh", "sampler", "remat", "micro", "GiB", "fits", "s a step", "MFU", "estimate")
    for name in names:
        made.add_column(name, justify="left" if name in ("mesh", "remat") else "right")
    for row in rows:
        mesh = " ".join(f"{axis}={size}" for axis, size in row["mesh"].items() if size > 1)
        seconds = row["step_seconds"]
        made.add_row(
            mesh or "one chip",
            str(row["split"]["sampler_devices"]) if row["split"] else "in turn",
            row["remat"],
            str(row["micro_batch"]),
            f"{row['bytes_per_chip'] / GIB:.2f}",
            "yes" if row["fits"] else "no",
            "" if seconds is None else f"{seconds:.4g}",
            "" if seconds is None else f"{row['mfu']:.1%}",
            f"{row['estimated_step_seconds']:.4g}",
        )
    return made


def search_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """The best layout as overrides, and how far the estimate agrees."""
    rows = plan["search"]
    best = rows[0]
    if not best["fits"]:
        yield "none of these layouts fits"
    elif best["overrides"]:
        yield f"best: {' '.join(best['overrides'])}"
    else:
        yield "best: the config as it is"
    agree, total = agreement(rows)
    if total:
        yield f"the estimate orders {agree} of {total} pairs as the compiled plans do"
    if plan["workload"]["ahead"] and not plan["workload"]["stale"]:
        yield "splits are not searched: max_staleness=0 (config.asynchronous.max_staleness)"
