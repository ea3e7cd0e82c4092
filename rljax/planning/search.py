"""Which layout is the fastest that fits: the best of the analytic model are compiled and ranked."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rljax.planning.analytic import estimate
from rljax.planning.chips import Topology
from rljax.planning.compiling import Compiler
from rljax.planning.layouts import Judged, judged, layout_of, words_of
from rljax.planning.plan import make_plan

Told = Callable[[str], None]
# A layout whose estimate is larger than so many chips is not worth a compilation.
HOPELESS = 2.0
# Layouts that training itself refuses, for each that is to be compiled, before a search ends.
MOST_REFUSED = 3


def search(
    compiler: Compiler, plan: Mapping[str, Any], count: int, *, told: Told = lambda line: None
) -> list[dict[str, Any]]:
    """Compiles the best layouts, and ranks them with the config's own.

    Args:
        compiler: of the run.
        plan: of the config as it is.
        count: layouts to compile.
        told: is called with a line before each.

    Returns:
        Rows of `row_of`, what fits first and the fastest of it first.
    """
    work, topology = plan["workload"], compiler.topology
    own = layout_of(work, topology)
    mine = Judged(own, estimate(work, own, topology))
    tried, rows, refused = [(mine, plan)], [row_of((), plan, mine)], 0
    for each in worth(judged(work, topology), tried, topology):
        if len(rows) > count or refused > MOST_REFUSED * count:
            break
        words = words_of(each.layout, work, topology)
        told(f"search: {' '.join(words)}")
        try:
            found = make_plan(compiler.with_overrides(words), told=told)
        except ValueError as error:
            told(f"search: refused: {error}")
            tried.append((each, {"fits": False}))
            refused += 1
            continue
        tried.append((each, found))
        rows.append(row_of(words, found, each))
    return ranked(rows)


def worth(
    ordered: Sequence[Judged],
    tried: Sequence[tuple[Judged, Mapping[str, Any]]],
    topology: Topology,
) -> Iterator[Judged]:
    """Layouts worth a compilation, the best first; looks at what was tried before each.

    Left out are those that were tried, that are hopeless, that are slower by the estimate than one
    on the same chips that fits, and that are larger than one on the same chips that does not.

    Args:
        ordered: of `judged`.
        tried: with their plans; grows while this goes on.
        topology: the slice.
    """
    for each in ordered:
        if each.estimate.bytes > HOPELESS * topology.chip.hbm_bytes:
            continue
        if not any(_settles(earlier, plan["fits"], each) for earlier, plan in tried):
            yield each


def _settles(earlier: Judged, fits: bool, each: Judged) -> bool:
    """Whether what was found of a layout tells that another one is not better."""
    if earlier.layout == each.layout:
        return True
    before, now = earlier.layout, each.layout
    if (dict(before.mesh), before.sampler_devices) != (dict(now.mesh), now.sampler_devices):
        return False
    if fits:
        return earlier.estimate.step_seconds <= each.estimate.step_seconds
    return earlier.estimate.bytes <= each.estimate.bytes


def row_of(words: Sequence[str], plan: Mapping[str, Any], each: Judged) -> dict[str, Any]:
    """What the table of a search says of a layout."""
    names = ("fits", "bytes_per_chip", "step_seconds", "mfu", "mesh", "split")
    return {
        "overrides": list(words),
        **{name: plan[name] for name in names},
        "sides": plan.get("sides"),
        "remat": each.layout.remat,
        "micro_batch": each.layout.micro,
        "estimated_bytes": each.estimate.bytes,
        "estimated_step_seconds": each.estimate.step_seconds,
    }


def ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What fits first, the fastest first; then by memory."""

    def order(row: dict[str, Any]) -> tuple[bool, float, float]:
        seconds = row["step_seconds"]
        return not row["fits"], seconds if row["fits"] else 0.0, row["bytes_per_chip"]

    return sorted(rows, key=order)


def agreement(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Pairs of layouts that the estimate orders as their compilation does, and all pairs.

    Layouts without a time are left out, and pairs with equal times.
    """
    timed = [row for row in rows if row["step_seconds"] is not None]
    agree = total = 0
    for one, other in itertools.combinations(timed, 2):
        compiled = one["step_seconds"] - other["step_seconds"]
        guessed = one["estimated_step_seconds"] - other["estimated_step_seconds"]
        if compiled and guessed:
            total += 1
            agree += (compiled > 0) == (guessed > 0)
    return agree, total
