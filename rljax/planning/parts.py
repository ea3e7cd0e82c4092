"""The chips of a slice that train, and those that only sample."""

import dataclasses
import functools
import math
from collections.abc import Collection, Sequence

import jax
from jax.experimental import topologies

from rljax.planning.chips import Topology, topologies_of
from rljax.training.run.meshes import split_devices

FIELD = "config.asynchronous.sampler_devices"
# Chips of the largest slice with one host, by its directions; of a larger slice a host has 4.
ONE_HOST, OF_A_HOST = {2: 8, 3: 4}, 4


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
    several = {"num_slices": topology.slices} if topology.slices > 1 else {}
    name = topology.one_slice
    described = topologies.get_topology_desc(platform="tpu", topology_name=name, **several)
    return list(described.devices)


def parts_of(topology: Topology, sampling: int) -> tuple[Part, Part]:
    """The chips that train, and those that only sample: the last ones of each host.

    The compiler describes a part of a slice of one host as it is, if its chips divide the slice.
    Any other part is compiled for a slice of its own with as many chips.

    Args:
        topology: the slice.
        sampling: chips that only sample.

    Raises:
        ValueError: if no chip trains, or a part cannot be described.
    """
    if topology.slices > 1:
        raise ValueError(
            f"sampler_devices={sampling} on {topology}: a sampler with chips of its own is planned "
            f"on one slice; plan it there, or all chips in turn ({FIELD})."
        )
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
    trained, sampled = split_devices(devices_of(topology), sampling)
    trains, samples = hows
    return _part(topology, trains, trained), _part(topology, samples, sampled)


def hosts(topology: Topology) -> int:
    """Hosts of a slice, each of which has one process."""
    one = ONE_HOST[topology.chip.directions]
    return 1 if topology.count <= one else topology.count // OF_A_HOST


def described_as(topology: Topology, count: int) -> Topology | None:
    """The slice that a part of so many chips is compiled for; None: it cannot be."""
    if hosts(topology) == 1 and topology.count % count == 0:
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
    """How many chips may only sample: as many of each host, so that both parts are described.

    Of several slices none is split.
    """
    if topology.slices > 1:
        return []
    each = hosts(topology)
    return [
        count
        for count in range(each, topology.count, each)
        if described_as(topology, count) and described_as(topology, topology.count - count)
    ]


def cut_links(
    topology: Topology, trains: Collection[Sequence[int]], samples: Collection[Sequence[int]]
) -> int:
    """Links between the chips that train and those that only sample.

    Args:
        topology: the slice.
        trains: coordinates of the chips that train.
        samples: coordinates of the others.
    """
    where = dict.fromkeys(map(tuple, trains), False) | dict.fromkeys(map(tuple, samples), True)
    links = 0
    for place, side in where.items():
        for axis, size in enumerate(topology.sizes):
            after = place[axis] + 1
            if after == size and not (size > 2 and topology.chip.closed(size)):
                continue
            neighbour = (*place[:axis], after % size, *place[axis + 1 :])
            links += side != where[neighbour]
    return links


def _part(topology: Topology, described: Topology, devices: list[jax.Device]) -> Part:
    if described is topology:
        return Part(devices, topology, f"{len(devices)} chips of {topology}")
    return Part(devices_of(described), described, f"{described}, a slice of its own")
