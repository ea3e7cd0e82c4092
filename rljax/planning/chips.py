"""TPU chips, and slices of them by name.

Figures: https://jax-ml.github.io/scaling-book/tpus (tables of chips and of their links), and the
pages of https://cloud.google.com/tpu/docs on v4, v5e, v5p and v6e. A link's bandwidth is one way.
Of the network between slices these pages have: 6.4 Tbit/s for the 256 chips of a pod of v5e, 25.6
for those of v6e, 50 Gbit/s for a chip of v5p, and nothing of v4.
"""

import dataclasses
import math
import re

from rljax.errors import unknown_name


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a chip can do at most.

    Attributes:
        flops: operations a second of bfloat16 matrix products.
        hbm_bytes: memory.
        hbm_bandwidth: bytes a second.
        link_bandwidth: bytes a second of one link between neighbours, one way.
        network_bandwidth: bytes a second over the network to other slices, one way: a chip's part
            of what its host has; 0: not known.
        directions: of the slice: 2 or 3.
        ring: a direction of so many chips, or a multiple where there are 3 directions, is closed
            to a ring; any other is a line.
        most: chips along each direction of the largest slice.
    """

    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    directions: int
    ring: int
    most: tuple[int, ...]

    def closed(self, size: int) -> bool:
        """Whether a direction of so many chips is a ring."""
        return size % self.ring == 0 if self.directions == 3 else size == self.ring


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1.2e12, 4.5e10, 0.0, 3, 4, (16, 16, 16)),
    "v5e": Chip(197e12, 16 * 2**30, 8.1e11, 5e10, 3.125e9, 2, 16, (16, 16)),
    "v5p": Chip(459e12, 95 * 2**30, 2.8e12, 1e11, 6.25e9, 3, 4, (16, 20, 28)),
    "v6e": Chip(918e12, 32 * 2**30, 1.6e12, 1e11, 1.25e10, 2, 16, (16, 16)),
}
SEVERAL = re.compile(r"(\d+)x([a-z].*)")  # number of slices, name of one
# Sizes along one direction of a slice that can be rented.
SIZES = {2: (1, 2, 4, 8, 16), 3: (1, 2, *range(4, 29, 4))}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice, or several that are alike.

    Attributes:
        kind: of the chips.
        sizes: chips of a slice along each direction.
        slices: how many.
    """

    kind: str
    sizes: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Chip:
        """One of its chips."""
        return CHIPS[self.kind]

    @property
    def count(self) -> int:
        """Chips, of all slices."""
        return self.slices * math.prod(self.sizes)

    @property
    def one_slice(self) -> str:
        """The name of one of its slices."""
        return f"{self.kind}:{'x'.join(map(str, self.sizes))}"

    def __str__(self) -> str:
        return self.one_slice if self.slices == 1 else f"{self.slices}x{self.one_slice}"


def topologies_of(kind: str) -> list[str]:
    """Names of the slices of a chip, the smallest first."""
    chip = CHIPS[kind]
    shapes: list[tuple[int, ...]] = [()]
    for most in chip.most:
        sizes = [size for size in SIZES[chip.directions] if size <= most]
        shapes = [(*s, size) for s in shapes for size in sizes if not s or size >= s[-1]]
    # Slices of a plane are rented as 2x2, 2x4, 4x4, ...: a side is the other one or its double.
    if chip.directions == 2:
        shapes = [s for s in shapes if s[1] in (s[0], 2 * s[0])]
    shapes.sort(key=lambda shape: (math.prod(shape), shape))
    return [str(Topology(kind, shape)) for shape in shapes]


def read_topology(text: str, field: str = "--topology") -> Topology:
    """A slice by its name, such as v5p:4x4x8: chips along each direction; 2xv5p:4x4x8 are two.

    Raises:
        ValueError: for another one, with the nearest.
    """
    if several := SEVERAL.fullmatch(text):
        return _several(int(several[1]), read_topology(several[2], field), field)
    kind, _, shape = text.partition(":")
    if kind not in CHIPS:
        raise unknown_name("chip", kind, CHIPS, field, hint=_example(text))
    known = topologies_of(kind)
    if text in known:
        return Topology(kind, tuple(map(int, shape.split("x"))))
    wanted = [int(size) for size in shape.split("x") if size.isdecimal() and len(size) < 6]
    chips = math.prod(wanted) if wanted else 0
    near = sorted(known, key=lambda name: abs(math.log(read_topology(name).count / max(chips, 1))))
    raise ValueError(
        f"Unknown topology {text!r}: {kind} has {CHIPS[kind].directions} directions, the smaller "
        f"sizes first; nearest: {', '.join(near[:4])} ({field})."
    )


def _several(count: int, one: Topology, field: str) -> Topology:
    """So many slices like that one."""
    if count < 1:
        raise ValueError(f"{count} slices: there must be 1 or more ({field}).")
    if count > 1 and not one.chip.network_bandwidth:
        known = ", ".join(name for name, chip in CHIPS.items() if chip.network_bandwidth)
        raise ValueError(
            f"{count} slices of {one.kind}: how fast its network is, is not published; several "
            f"slices can be planned of {known} ({field})."
        )
    return dataclasses.replace(one, slices=count)


def _example(text: str) -> str:
    shape = text.partition(":")[2] or "4x4"
    return f"A topology is CHIP:AxB or CHIP:AxBxC, such as v5e:{shape}."
