"""TPU generations: their slices, their hosts, and how Google Cloud calls them.

A slice is written GENERATION:TOPOLOGY, such as "v5p:4x4x8"; the topology counts chips.
"""

import math
from typing import NamedTuple

from rljax.errors import shown, unknown_name

FIELD = "--topology"


class Generation(NamedTuple):
    """One generation of TPUs.

    Attributes:
        accelerator: the label cloud.google.com/gke-tpu-accelerator of its nodes.
        machines: name of a machine of GKE -> chips of it.
        hosts: chips of a host of a slice -> topologies that have such hosts.
        accelerator_type: prefix of --accelerator-type of TPU VMs.
        cores: that this type counts for a chip.
    """

    accelerator: str
    machines: dict[str, int]
    hosts: dict[int, tuple[str, ...]]
    accelerator_type: str
    cores: int = 1


class Slice(NamedTuple):
    """One slice: its generation, topology, chips, and chips of a host."""

    generation: str
    topology: str
    chips: int
    chips_per_host: int

    @property
    def hosts(self) -> int:
        """Machines of the slice, each with one process."""
        return self.chips // self.chips_per_host

    @property
    def accelerator(self) -> str:
        """The label of its nodes in GKE."""
        return GENERATIONS[self.generation].accelerator

    @property
    def accelerator_type(self) -> str:
        """As `gcloud compute tpus tpu-vm create` and xpk call it, such as "v5p-256"."""
        of = GENERATIONS[self.generation]
        return f"{of.accelerator_type}-{self.chips * of.cores}"


def _cubes(largest: int) -> tuple[str, ...]:
    """Topologies of chips in three dimensions, up to so many: small ones, and multiples of 4."""
    sides = [a for a in range(4, 33, 4)]
    found = [(a, b, c) for a in sides for b in sides for c in sides if a <= b <= c]
    found = sorted((x for x in found if math.prod(x) <= largest), key=math.prod)
    return ("2x2x1", "2x2x2", "2x2x4", "2x4x4", *("x".join(map(str, x)) for x in found))


FLAT = ("4x4", "4x8", "8x8", "8x16", "16x16")
GENERATIONS: dict[str, Generation] = {
    "v4": Generation("tpu-v4-podslice", {"ct4p-hightpu-4t": 4}, {4: _cubes(4096)}, "v4", 2),
    "v5e": Generation(
        "tpu-v5-lite-podslice",
        {"ct5lp-hightpu-1t": 1, "ct5lp-hightpu-4t": 4, "ct5lp-hightpu-8t": 8},
        {1: ("1x1",), 4: ("2x2", "2x4", *FLAT), 8: ("2x4",)},
        "v5litepod",
    ),
    "v5p": Generation("tpu-v5p-slice", {"ct5p-hightpu-4t": 4}, {4: _cubes(6144)}, "v5p", 2),
    "v6e": Generation(
        "tpu-v6e-slice",
        {"ct6e-standard-1t": 1, "ct6e-standard-4t": 4, "ct6e-standard-8t": 8},
        {1: ("1x1",), 4: ("2x2", "2x4", *FLAT), 8: ("2x4",)},
        "v6e",
    ),
}
MACHINES = {name: of for of, g in GENERATIONS.items() for name in g.machines}


def read_slice(text: str, machine: str = "") -> Slice:
    """The slice that "v6e:4x8" names.

    Args:
        text: GENERATION:TOPOLOGY.
        machine: type of its nodes in GKE, such as "ct6e-standard-4t"; "" for the largest that the
            topology can have, so that it has the fewest hosts.

    Raises:
        ValueError: for an unknown generation or machine, or a topology that it does not have; the
            nearest one is named.
    """
    generation, colon, topology = text.partition(":")
    if not colon or not topology:
        raise ValueError(
            f"A slice is GENERATION:TOPOLOGY such as v5p:4x4x8, got {shown(text)} ({FIELD})."
        )
    if generation not in GENERATIONS:
        raise unknown_name("TPU generation", generation, GENERATIONS, FIELD)
    if machine and machine not in MACHINES:
        raise unknown_name("machine type", machine, MACHINES, "--machine")
    if machine and MACHINES[machine] != generation:
        raise ValueError(
            f"{machine} is a machine of {MACHINES[machine]}, and {text} is of {generation} "
            f"(--machine, {FIELD})."
        )
    of = GENERATIONS[generation]
    hosts = {of.machines[machine]: of.hosts[of.machines[machine]]} if machine else of.hosts
    fitting = [chips for chips, names in hosts.items() if topology in names]
    if not fitting:
        raise _no_such_slice(topology, machine or generation, hosts)
    chips = math.prod(int(side) for side in topology.split("x"))
    return Slice(generation, topology, chips, max(fitting))


def _no_such_slice(topology: str, of: str, hosts: dict[int, tuple[str, ...]]) -> ValueError:
    known = sorted({name for names in hosts.values() for name in names}, key=_chips)
    near = f"Nearest: {', '.join(_nearest(topology, known))}."
    return ValueError(f"{of} has no slice {shown(topology)} ({FIELD}). {near}")


def _nearest(topology: str, known: list[str]) -> list[str]:
    """The two topologies whose number of chips is nearest; the smallest ones if it has none."""
    sides = topology.split("x")
    if not all(side.isdecimal() and 0 < int(side[:9]) for side in sides):
        return known[:2]
    wanted = math.log(math.prod(int(side[:9]) for side in sides))
    return sorted(known, key=lambda name: abs(math.log(_chips(name)) - wanted))[:2]


def _chips(topology: str) -> int:
    return math.prod(int(side) for side in topology.split("x"))
