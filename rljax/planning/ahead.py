"""A step whose sampler runs ahead on chips of its own: the longer side, or the weights on the way.

trainer's chips   scores, reference, update, load (in the sampler's precision) ─┐ transfer
sampler's chips   sampling of a later step                            ◄─────────┘
"""

from collections.abc import Mapping
from typing import Any

from rljax.planning.chips import Topology
from rljax.planning.parts import splits_of

# Phases that chips which only sample take over.
SAMPLING = "sampling"


def transfer_seconds(topology: Topology, size: float, links: int) -> float:
    """The least time in which weights pass from one part of a slice to the other.

    Args:
        topology: the slice.
        size: bytes that all chips of the sampler take in.
        links: between the two parts; each takes so much one way.
    """
    return size / (links * topology.chip.link_bandwidth)


def split_times(
    phases: Mapping[str, Mapping[str, Any]], split: Mapping[str, Any] | None, topology: Topology
) -> dict[str, float] | None:
    """Seconds of each side of a split slice, of the transfer, and of a step: the longest of them.

    Args:
        phases: by name, with `side` and `seconds`.
        split: as the worker describes it; None: nothing is split, and the answer is None.
        topology: the slice.
    """
    if split is None:
        return None
    sides = {"trainer": 0.0, "sampler": 0.0}
    for phase in phases.values():
        sides[phase["side"]] += phase["seconds"]
    sides["transfer"] = transfer_seconds(topology, split["bytes"], split["links"])
    return sides | {"step_seconds": max(sides.values())}


def estimated(plan: Mapping[str, Any], topology: Topology) -> dict[str, Any] | None:
    """The best split of a step that was planned on all chips in turn, nothing compiled anew.

    A side with a part of the chips takes as much longer as it has fewer; the weights' way is left
    out. That is too long for decoding, which reads the same weights however many rows there are.

    Returns:
        sampler_devices, step_seconds; None for a plan without sampling, without times, or of a
        slice that cannot be split.
    """
    phases = plan["phases"]
    splits = splits_of(topology)
    if SAMPLING not in phases or plan["step_seconds"] is None or not splits:
        return None
    sampling = phases[SAMPLING]["seconds"]
    training = sum(phase["seconds"] for phase in phases.values()) - sampling
    chips = topology.count

    def seconds(count: int) -> float:
        return max(sampling * chips / count, training * chips / (chips - count))

    best = min(splits, key=seconds)
    return {"sampler_devices": best, "step_seconds": seconds(best)}
