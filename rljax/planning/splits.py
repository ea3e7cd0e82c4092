"""A step in turn beside one with the sampler ahead, on the best split of the chips."""

from collections.abc import Mapping
from typing import Any

from rljax.planning.ahead import estimated
from rljax.planning.compiling import Compiler
from rljax.planning.layouts import Judged, judged, words_of
from rljax.planning.parts import splits_of
from rljax.planning.plan import make_plan
from rljax.planning.search import Told, ranked, row_of


def both_ways(
    compiler: Compiler, plan: Mapping[str, Any], most: int, *, told: Told = lambda line: None
) -> dict[str, Any]:
    """What a plan says of a step in turn, and of one with the sampler ahead.

    Args:
        compiler: of the run.
        plan: of the config as it is.
        most: splits to compile; 0: none, and of a run in turn the best is estimated from its plan.
        told: is called with a line before each.

    Returns:
        step_seconds_synchronous, step_seconds_ahead (None: not known, or not possible) and `ahead`:
        sampler_devices, how it is known, and the rows of the splits that were compiled.
    """
    seconds, work, topology = plan["step_seconds"], plan["workload"], compiler.topology
    own = plan["split"] is not None
    known = {
        "step_seconds_synchronous": None if own else seconds,
        "step_seconds_ahead": seconds if own else None,
        "ahead": None,
    }
    if not work["ahead"]:
        return known
    if own:
        known["ahead"] = {"sampler_devices": work["sampler_devices"], "how": "compiled", "rows": []}
    elif (guess := estimated(plan, topology)) is not None:
        known["step_seconds_ahead"] = guess["step_seconds"]
        known["ahead"] = {**guess, "how": "estimated", "rows": []}
    if not most:
        return known
    rows = _compiled(compiler, plan, most, told)
    for row in rows:
        if row["split"] is None and row["step_seconds"] is not None:
            known["step_seconds_synchronous"] = row["step_seconds"]
    split = [row for row in rows if row["split"] and row["step_seconds"] is not None]
    if own and seconds is not None:
        split.append({"split": plan["split"], "step_seconds": seconds, "fits": plan["fits"]})
    fitting = [row for row in split if row["fits"]] or split
    if fitting:
        best = min(fitting, key=lambda row: row["step_seconds"])
        known["step_seconds_ahead"] = best["step_seconds"]
        known["ahead"] = {
            "sampler_devices": best["split"]["sampler_devices"],
            "how": "compiled",
            "rows": rows,
        }
    return known


def best_of_splits(plan: Mapping[str, Any], compiler: Compiler) -> list[Judged]:
    """The best layout of each split by the analytic model, the fastest first.

    The policy of remat stays; for a run whose chips are split, all chips in turn are among them.
    """
    work, topology = plan["workload"], compiler.topology
    found = []
    for count in splits_of(topology):
        if count != work["sampler_devices"]:
            found += judged(work, topology, splits=[count], remats=[work["remat"]])[:1]
    capacity = topology.chip.hbm_bytes
    found.sort(
        key=lambda each: (max(each.estimate.bytes / capacity, 1), each.estimate.step_seconds)
    )
    if work["sampler_devices"]:
        found = judged(work, topology, splits=[0], remats=[work["remat"]])[:1] + found
    return found


def _compiled(
    compiler: Compiler, plan: Mapping[str, Any], most: int, told: Told
) -> list[dict[str, Any]]:
    """Rows of the splits that were compiled; one that is refused is told and passed over."""
    rows = []
    for each in best_of_splits(plan, compiler):
        if len(rows) == most:
            break
        words = words_of(each.layout, plan["workload"], compiler.topology)
        told(f"ahead: {' '.join(words)}")
        try:
            found = make_plan(compiler.with_overrides(words), told=told)
        except ValueError as error:
            told(f"ahead: refused: {error}")
            continue
        rows.append(row_of(words, found, each))
    return ranked(rows)
