"""What would fit where a plan does not: the smallest change, found by trying.

A change is tried by compiling the phase that does not fit. The analytic model only leaves out what
is hopeless: what the compiler found changes by the factor that it says.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rljax.planning.analytic import Layout, estimate
from rljax.planning.chips import Topology
from rljax.planning.compiling import Compiler
from rljax.planning.layouts import layout_of, micro_batches, sampler_tensors, words_of
from rljax.planning.plan import held_beside
from rljax.planning.program import SAMPLERS

Told = Callable[[str], None]
# Changes after which a chip would still be so much too small, by the estimate, are not tried.
HOPELESS = 1.5
# Phases whose memory is the sampler's.
# From where a run is to where less is kept.
ORDER = ("none", "dots", "full", "offload")


class Change(NamedTuple):
    """Overrides, and what they make of the run for the analytic model."""

    words: list[str]
    work: Mapping[str, Any]
    layout: Layout


def remedy(
    compiler: Compiler, plan: Mapping[str, Any], most: int, *, told: Told = lambda line: None
) -> dict[str, Any]:
    """Tries changes, the smallest first, until every phase that does not fit does.

    Args:
        compiler: of the run.
        plan: that does not fit.
        most: changes to try.
        told: is called with a line before each.

    Returns:
        overrides (None: nothing was found), bytes_per_chip of the phases then, and `tries`.
    """
    topology, tries = compiler.topology, []
    over = failing(plan)
    for change in changes(plan["workload"], topology, over):
        if len(tries) == most:
            break
        if not worth_trying(plan, change, topology, over):
            continue
        told(f"would it fit: {' '.join(change.words)}")
        try:
            found = _sizes(compiler.with_overrides(change.words), over, topology)
        except ValueError as error:
            told(f"would it fit: refused: {error}")
            continue
        fits = len(found) == len(over) and all(
            size <= topology.chip.hbm_bytes for size in found.values()
        )
        tries.append({"overrides": change.words, "bytes_per_chip": found, "fits": fits})
        if fits:
            return {"overrides": change.words, "bytes_per_chip": found, "tries": tries}
    return {"overrides": None, "bytes_per_chip": None, "tries": tries}


def failing(plan: Mapping[str, Any]) -> list[str]:
    """The phases that do not fit, the largest first."""
    phases, capacity = plan["phases"], plan["capacity_bytes"]
    over = [
        name
        for name, phase in phases.items()
        if not phase["compiles"] or phase["bytes_per_chip"] > capacity
    ]
    return sorted(over, key=lambda name: -phases[name]["bytes_per_chip"])


def _sizes(compiler: Compiler, phases: list[str], topology: Topology) -> dict[str, float]:
    """Bytes per chip of phases, up to the first that does not fit."""
    run, found = compiler.describe(), {}
    for name in phases:
        program = run["programs"].get(name)
        if program is None:  # the change has no use for it
            found[name] = 0.0
            continue
        beside = sum(held_beside(run["resident"], program).values())
        found[name] = compiler.compile(name)["bytes"] + beside
        if found[name] > topology.chip.hbm_bytes:
            break
    return found


def worth_trying(
    plan: Mapping[str, Any], change: Change, topology: Topology, over: list[str]
) -> bool:
    """Whether a change may be enough, by the factor that the analytic model says."""
    before = estimate(plan["workload"], layout_of(plan["workload"], topology), topology)
    after = estimate(change.work, change.layout, topology)
    for name in over:
        kinds = "sampling" if name in SAMPLERS else "memory"
        factor = sum(getattr(after, kinds).values()) / sum(getattr(before, kinds).values())
        size = plan["phases"][name]["bytes_per_chip"] * factor
        if size > HOPELESS * topology.chip.hbm_bytes:
            return False
    return True


def changes(work: Mapping[str, Any], topology: Topology, over: list[str]) -> Iterator[Change]:
    """Changes that make the phases smaller: of one thing, then of several."""
    layout = layout_of(work, topology)
    sampling = any(name in SAMPLERS for name in over)
    singles = [*_sampler_settings(work, layout)] if sampling else []
    trains = [name for name in over if name not in SAMPLERS]
    layouts = []
    if trains:
        layouts += _remats(layout) if "update" in trains else []
        layouts += _smaller_passes(work, layout)
    if sampling:
        layouts += _sampler_shards(work, topology, layout)
    meshes = list(_more_shards(work, layout))
    for each in [*layouts, *meshes]:
        singles.append(Change(words_of(each, work, topology), work, each))
    yield from singles
    # Several: the strongest of each kind, with the least micro-batch last.
    remat = (_remats(layout) or [layout])[-1].remat if "update" in trains else layout.remat
    for mesh in [layout, *meshes]:
        sizes = [each.micro for each in _smaller_passes(work, mesh)] if trains else []
        for micro in sizes or [mesh.micro]:
            together = dataclasses.replace(mesh, remat=remat, micro=micro)
            words = words_of(together, work, topology)
            if words and not any(words == single.words for single in singles):
                yield Change(words, work, together)


def _sampler_settings(work: Mapping[str, Any], layout: Layout) -> Iterator[Change]:
    """Smaller numbers in the sampler's cache and weights, and fewer rows at a time."""
    given, field = work["sampler"], "--config.sampler"
    sequences = work["prompts_per_step"] * work["call_samples"]
    shards = layout.sampler_devices or layout.size("data", "fsdp", "expert")
    rows = given["slots"] or sequences
    options: list[dict[str, Any]] = []
    decodes = not work["denoising"]  # else there is no cache, and all rows are filled at a time
    if decodes and given["cache"] == "":
        options.append({"cache": "int8"})
    if given["weights"] == "" and work["parameter_bytes"] > 2:
        options.append({"weights": "bfloat16"})
    if given["weights"] != "int8":
        options.append({"weights": "int8"})
    if decodes:
        options += [{"slots": rows // part} for part in (2, 4) if rows // part % shards == 0]
    if decodes and given["cache"] == "" and given["weights"] != "int8":
        options.append({"cache": "int8", "weights": "int8"})
    for option in options:
        words = [f"{field}.{name}={value}" for name, value in option.items()]
        yield Change(words, {**work, "sampler": given | option}, layout)


def _remats(layout: Layout) -> list[Layout]:
    """The policies that keep less."""
    stronger = ORDER[ORDER.index(layout.remat) + 1 :]
    return [dataclasses.replace(layout, remat=remat) for remat in stronger]


def _smaller_passes(work: Mapping[str, Any], layout: Layout) -> list[Layout]:
    """Micro-batches halved, again and again."""
    rows = layout.size("data", "fsdp", "expert")
    smaller = [micro for micro in micro_batches(work, rows) if micro < layout.micro]
    return [dataclasses.replace(layout, micro=micro) for micro in smaller]


def _more_shards(work: Mapping[str, Any], layout: Layout) -> Iterator[Layout]:
    """Twice as many shards of the parameters, then four times, and so on: fsdp, then tensor."""
    for axis, taken in (("fsdp", "data"), ("tensor", "data"), ("tensor", "fsdp")):
        sizes = dict(layout.mesh)
        while sizes.get(taken, 1) % 2 == 0:
            sizes = sizes | {taken: sizes[taken] // 2, axis: sizes.get(axis, 1) * 2}
            if _model_divides(work, sizes):
                yield dataclasses.replace(layout, mesh=sizes, **_following(work, layout, sizes))


def _following(work: Mapping[str, Any], layout: Layout, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sampler's shards where it has the trainer's mesh."""
    own = layout.sampler_devices or work["sampler"]["mesh"]
    return {} if own else {"sampler_tensor": sizes["tensor"]}


def _sampler_shards(work: Mapping[str, Any], topology: Topology, layout: Layout) -> list[Layout]:
    """The sampler's weights over more chips."""
    chips = layout.sampler_devices or topology.count
    more = [each for each in sampler_tensors(work, chips) if each > layout.sampler_tensor]
    return [dataclasses.replace(layout, sampler_tensor=tensor) for tensor in more]


def _model_divides(work: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
    split = ("heads", "kv_heads", "hidden", "vocabulary")
    return work["width"] % sizes.get("fsdp", 1) == 0 and not any(
        work[name] % sizes.get("tensor", 1) for name in split
    )
