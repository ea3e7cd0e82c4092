"""The chips of a slice that train, and those that only sample."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from rljax.planning.chips import Topology, topologies_of

FIELD = "config.asynchronous.sampler_devices"


@dataclasses.dataclass(frozen=True)
class Part:
    """Chips that run the same programs.

    Attributes:
        devices: for which can be compiled, not computed.
        topology: the slice that they are described as.
        how: in words.
    """

    devices: list[jax.Device]
    topology: Topology
    how: str


def devices_of(topology: Topology) -> list[jax.Device]:
    """Devices for which can be compiled, not computed."""
    described = topologies.get_topology_desc(platform="tpu", topology_name=str(topology))
    return list(described.devices)


def parts_of(topology: Topology, sampling: int) -> tuple[Part, Part]:
    """The chips that train, and the last ones of the slice, which only sample.

    The compiler describes a part of a slice whose chips divide it evenly as it is. Any other part
    is compiled for a slice of its own with as many chips.

    Args:
        topology: the slice.
        sampling: chips that only sample.

    Raises:
        ValueError: if no chip trains, or a part cannot be described.
    """
    if not 0 < sampling < topology.count:
        raise ValueError(
            f"sampler_devices={sampling} of {topology.count} devices leaves none to train: it must "
            f"be less ({FIELD})."
        )
    hows = [described_as(topology, count) for count in (topology.count - sampling, sampling)]
    for how, count in zip(hows, (topology.count - sampling, sampling), strict=True):
        if how is None:
            raise ValueError(
                f"sampler_devices={sampling}: {count} chips are no even part of {topology}, and no "
                f"slice of {topology.kind} has as many; splits that can be planned: "
                f"{', '.join(map(str, splits_of(topology))) or 'none'} ({FIELD})."
            )
    trains, samples = hows
    devices = devices_of(topology)
    return (
        _part(topology, trains, devices[:-sampling]),
        _part(topology, samples, devices[-sampling:]),
    )


def described_as(topology: Topology, count: int) -> Topology | None:
    """The slice that a part of so many chips is compiled for; None: it cannot be."""
    if topology.count % count == 0:
        return topology
    name = _slices(topology.kind).get(count)
    if name is None:
        return None
    return Topology(topology.kind, tuple(map(int, name.partition(":")[2].split("x"))))


@functools.cache
def _slices(kind: str) -> dict[int, str]:
    """Chips -> the slice of so many whose directions are most alike."""
    found = {}
    for name in topologies_of(kind):  # of as many chips the last one is nearest to a cube
        found[math.prod(map(int, name.partition(":")[2].split("x")))] = name
    return found


def splits_of(topology: Topology) -> list[int]:
    """How many chips may only sample, so that both parts can be described."""
    return [
        count
        for count in range(1, topology.count)
        if described_as(topology, count) and described_as(topology, topology.count - count)
    ]


def cut_links(topology: Topology, places: Sequence[Sequence[int]], sampling: int) -> int:
    """Links between the chips that train and the last ones, which only sample.

    Args:
        topology: the slice.
        places: coordinates of its chips, in their order.
        sampling: chips that only sample.
    """
    where = {tuple(place): number >= len(places) - sampling for number, place in enumerate(places)}
    links = 0
    for place, samples in where.items():
        for axis, size in enumerate(topology.sizes):
            after = place[axis] + 1
            if after == size and not (size > 2 and topology.chip.closed(size)):
                continue
            neighbour = (*place[:axis], after % size, *place[axis + 1 :])
            links += samples != where[neighbour]
    return links


def _part(topology: Topology, described: Topology, devices: list[jax.Device]) -> Part:
    if described is topology:
        return Part(devices, topology, f"{len(devices)} chips of {topology}")
    return Part(devices_of(described), described, f"a slice of its own, {described}")
