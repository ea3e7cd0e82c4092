"""The layouts of a run that divide a slice, the best by the analytic model first."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.parallel.mesh import AXES, resolve_axis_sizes
from rljax.planning.analytic import Estimate, Layout, estimate
from rljax.planning.chips import Topology
from rljax.planning.parts import FIELD as SAMPLER_DEVICES
from rljax.planning.parts import splits_of

# Policies that are searched, the fastest first; "offload" needs a host's memory and bandwidth.
REMATS = ("none", "dots", "full")
# Axes that are searched; the sizes of the others are the config's.
SEARCHED = ("data", "fsdp", "tensor")


class Judged(NamedTuple):
    """A layout, and what the analytic model says of it."""

    layout: Layout
    estimate: Estimate


def layout_of(work: Mapping[str, Any], topology: Topology) -> Layout:
    """The layout that a run's config gives it."""
    own = work["sampler_devices"]
    mesh = resolve_axis_sizes(work["mesh"], topology.count - own)
    tensor = mesh["tensor"]
    if own or work["sampler"]["mesh"]:
        sizes = {"data": -1} | work["sampler"]["mesh"]
        tensor = resolve_axis_sizes(sizes, own or topology.count)["tensor"]
    return Layout(mesh, work["remat"], work["sequences_per_micro_batch"], own, tensor)


def judged(
    work: Mapping[str, Any],
    topology: Topology,
    *,
    splits: Sequence[int] | None = None,
    remats: Sequence[str] = REMATS,
) -> list[Judged]:
    """All layouts that divide a slice: what fits by the estimate first, then by its time.

    Those that do not fit come by their memory, as the estimate may be too high.

    Args:
        work: what the stage asks (workload.py).
        topology: the slice.
        splits: chips that only sample, each a number to try; by default all that can be where the
            config allows samples of older weights, else none.
        remats: policies to try.
    """
    if splits is None:
        splits = [0, *(splits_of(topology) if work["ahead"] and work["stale"] else ())]
    found = [
        Judged(layout, estimate(work, layout, topology))
        for own in splits
        for layout in _of_split(work, topology, own, remats)
    ]
    capacity = topology.chip.hbm_bytes

    def order(each: Judged) -> tuple[Any, ...]:
        over = max(each.estimate.bytes / capacity, 1.0)
        # Where times are equal, the layout with larger passes and fewer shards is the simpler one.
        return over, each.estimate.step_seconds, -each.layout.micro, each.layout.size("tensor")

    return sorted(found, key=order)


def _of_split(
    work: Mapping[str, Any], topology: Topology, own: int, remats: Sequence[str]
) -> Iterator[Layout]:
    chips = topology.count - own
    kept = {axis: work["mesh"].get(axis, 1) for axis in AXES if axis not in SEARCHED}
    if chips % math.prod(kept.values()):
        return
    for mesh in meshes_of(work, chips // math.prod(kept.values())):
        mesh = {axis: (mesh | kept)[axis] for axis in AXES}
        if not goes_over(topology.slices, mesh):
            continue
        rows = math.prod(mesh[axis] for axis in ("data", "fsdp", "expert"))
        if work["evaluation_prompts"] % rows or work["prompts_per_step"] % rows:
            continue
        tensors = sampler_tensors(work, own or topology.count) if work["sampled"] else [1]
        for micro, remat in itertools.product(micro_batches(work, rows), remats):
            layouts = [Layout(mesh, remat, micro, own, tensor) for tensor in tensors]
            if layouts:
                yield _best_sampler(work, topology, layouts)


def goes_over(slices: int, mesh: Mapping[str, int]) -> bool:
    """Whether a mesh can be laid over so many slices."""
    return mesh["fsdp"] % (slices // math.gcd(slices, mesh["data"])) == 0


def _best_sampler(work: Mapping[str, Any], topology: Topology, layouts: list[Layout]) -> Layout:
    """The fastest that fits of layouts that differ in the sampler alone, else the smallest."""
    capacity = topology.chip.hbm_bytes

    def order(layout: Layout) -> tuple[float, float]:
        found = estimate(work, layout, topology)
        over = max(sum(found.sampling.values()) / capacity, 1.0)
        return over, found.seconds.get("sampling", 0.0)

    return min(layouts, key=order)


def meshes_of(work: Mapping[str, Any], chips: int) -> list[dict[str, int]]:
    """Sizes of data, fsdp and tensor with so many chips in all, that divide the model."""
    found = []
    for tensor in _divisors(chips):
        if any(work[name] % tensor for name in ("heads", "kv_heads", "hidden", "vocabulary")):
            continue
        for fsdp in _divisors(chips // tensor):
            if work["width"] % fsdp == 0:
                found.append({"data": chips // tensor // fsdp, "fsdp": fsdp, "tensor": tensor})
    return found


def micro_batches(work: Mapping[str, Any], rows: int) -> list[int]:
    """Sequences of a pass: an update's, halved again and again, that divide over so many shards."""
    found, size = [], work["sequences_per_update"]
    while size % (work["together"] * rows) == 0:
        found.append(size)
        if size % 2:
            break
        size //= 2
    return found


def sampler_tensors(work: Mapping[str, Any], chips: int) -> list[int]:
    """Shards of the sampler's weights over so many chips; prompts are split over the others."""
    sizes = [work[name] for name in ("heads", "kv_heads", "hidden", "vocabulary")]
    return [
        tensor
        for tensor in _divisors(chips)
        if not any(size % tensor for size in sizes)
        and work["prompts_per_step"] % (chips // tensor) == 0
    ]


def words_of(layout: Layout, work: Mapping[str, Any], topology: Topology) -> list[str]:
    """The overrides that give a run a layout; none for what its config says anyway."""
    given = layout_of(work, topology) if _divides(work, topology) else None
    words = []
    if given is None or dict(layout.mesh) != dict(given.mesh):
        words += [f"--config.mesh.{axis}={layout.mesh[axis]}" for axis in SEARCHED]
    if layout.remat != work["remat"]:
        words.append(f"--config.model.remat={layout.remat}")
    if layout.micro != work["sequences_per_micro_batch"]:
        field = f"--config.{work['stage']}.batch.sequences_per_micro_batch"
        words.append(f"{field}={layout.micro}")
    if layout.sampler_devices != work["sampler_devices"]:
        words.append(f"--{SAMPLER_DEVICES}={layout.sampler_devices}")
    return words + _sampler_words(layout, work, given)


def _sampler_words(layout: Layout, work: Mapping[str, Any], given: Layout | None) -> list[str]:
    """The overrides of the sampler's own mesh."""
    asked, tensor = work["sampler"]["mesh"], layout.sampler_tensor
    if not work["sampled"]:
        return []
    if not asked and tensor == (1 if layout.sampler_devices else layout.size("tensor")):
        return []
    wanted = {"data": -1, "tensor": tensor}
    same = {axis: asked.get(axis, 1) for axis in AXES if axis != "data"}
    if asked and same == {axis: wanted.get(axis, 1) for axis in same}:
        if asked.get("data", -1) == -1 or (
            given is not None and given.sampler_devices == layout.sampler_devices
        ):
            return []
    others = {axis: 1 for axis in asked if axis not in wanted}
    return [f"--config.sampler.mesh.{axis}={size}" for axis, size in (wanted | others).items()]


def _divides(work: Mapping[str, Any], topology: Topology) -> bool:
    try:
        layout_of(work, topology)
    except ValueError:
        return False
    return True


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]
