"""How long a program takes: the longest of its operations, memory, links, and network.

Each term is what the chip needs for that alone, and the others hide behind the longest. Nothing is
fitted to measurements: a time here is the least that the compiled program can take.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from rljax.planning.chips import Topology
from rljax.planning.costs import Collective
from rljax.planning.groups import axes_of, extents

ICI, DCN = "ICI", "DCN"


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What a kind of collective costs along axes of the mesh.

    Attributes:
        kind: of the collective.
        axes: of the mesh.
        link: what it goes over: "ICI", the links within a slice, or "DCN", the network between.
        bytes: of a chip's larger side, summed.
        count: how often.
        seconds: on the links.
    """

    kind: str
    axes: tuple[str, ...]
    link: str
    bytes: float
    count: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a program by what bounds it."""

    compute: float
    memory: float
    links: float
    network: float = 0.0

    @property
    def seconds(self) -> float:
        """The longest."""
        return max(dataclasses.astuple(self))

    @property
    def dominating(self) -> str:
        """The name of the longest."""
        named = dataclasses.asdict(self)
        return max(named, key=named.__getitem__)


def exchanges(
    collectives: Sequence[Collective],
    topology: Topology,
    places: Sequence[Sequence[int]],
    mesh: Mapping[str, int],
    slices: Sequence[int] = (),
) -> list[Exchange]:
    """Collectives with their axes and times, the longest first.

    Args:
        collectives: of a program.
        topology: the slice, or slices, that it runs on.
        places: coordinates of the chip of each partition in its slice.
        mesh: axis -> size.
        slices: the slice of each partition; none: there is one.
    """
    found: dict[tuple[str, tuple[str, ...], str], list[float]] = {}
    for each in collectives:
        axes = axes_of(each.groups, dict(mesh))
        if not axes:
            continue  # a chip with itself
        members = max(map(len, each.groups))
        if slices and any(len({slices[chip] for chip in group}) > 1 for group in each.groups):
            link, bandwidth = DCN, topology.chip.network_bandwidth
            share = share_over_network(each.kind, members)
        else:
            link, bandwidth = ICI, group_bandwidth(topology, extents(each.groups, places))
            share = share_sent(each.kind, members)
        seconds = each.bytes * share / bandwidth
        row = found.setdefault((each.kind, axes, link), [0.0, 0.0, 0.0])
        for place, value in enumerate((each.bytes, each.count, seconds)):
            row[place] += value
    rows = [Exchange(*which, *row) for which, row in found.items()]
    return sorted(rows, key=lambda row: -row.seconds)


def share_sent(kind: str, members: int) -> float:
    """How often the bytes of a collective pass a chip's links, in rings of its members."""
    if kind == "collective-permute":
        return 1.0
    ring = (members - 1) / members
    if kind == "all-to-all":  # the middle of a ring is passed by a quarter
        return ring / 4
    return 2 * ring if kind == "all-reduce" else ring


def share_over_network(kind: str, members: int) -> float:
    """How often the bytes of a collective leave a chip's slice, a member in each of its slices.

    No member lies between two others, as it does in a ring.
    """
    if kind == "all-to-all":
        return (members - 1) / members
    return share_sent(kind, members)


def group_bandwidth(topology: Topology, along: Sequence[int]) -> float:
    """Bytes a second that a chip takes in from a group that lies so far along each direction.

    A direction is passed both ways where it is a ring and the group has all of it.
    """
    chip, total = topology.chip, 0.0
    for extent, size in zip(along, topology.sizes, strict=False):
        if extent > 1:
            both = extent == size and chip.closed(size)
            total += chip.link_bandwidth * (2 if both else 1)
    return total or chip.link_bandwidth


def times_of(
    topology: Topology, flops: float, hbm_bytes: float, exchanged: Sequence[Exchange]
) -> Times:
    """The terms of a program that runs once."""
    chip = topology.chip
    return Times(
        compute=flops / chip.flops,
        memory=hbm_bytes / chip.hbm_bandwidth,
        links=sum(each.seconds for each in exchanged if each.link == ICI),
        network=sum(each.seconds for each in exchanged if each.link == DCN),
    )
