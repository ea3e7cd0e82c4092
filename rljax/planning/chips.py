"""TPU chips, and slices of them by name.

Figures: https://jax-ml.github.io/scaling-book/tpus (tables of chips and of their links), and the
pages of https://cloud.google.com/tpu/docs on v4, v5e, v5p and v6e. A link's bandwidth is one way.
"""

import dataclasses
import math

from rljax.errors import unknown_name


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a chip can do at most.

    Attributes:
        flops: operations a second of bfloat16 matrix products.
        hbm_bytes: memory.
        hbm_bandwidth: bytes a second.
        link_bandwidth: bytes a second of one link between neighbours, one way.
        directions: of the slice: 2 or 3.
        ring: a direction of so many chips, or a multiple where there are 3 directions, is closed
            to a ring; any other is a line.
        most: chips along each direction of the largest slice.
    """

    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    directions: int
    ring: int
    most: tuple[int, ...]

    def closed(self, size: int) -> bool:
        """Whether a direction of so many chips is a ring."""
        return size % self.ring == 0 if self.directions == 3 else size == self.ring


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1.2e12, 4.5e10, 3, 4, (16, 16, 16)),
    "v5e": Chip(197e12, 16 * 2**30, 8.1e11, 5e10, 2, 16, (16, 16)),
    "v5p": Chip(459e12, 95 * 2**30, 2.8e12, 1e11, 3, 4, (16, 20, 28)),
    "v6e": Chip(918e12, 32 * 2**30, 1.6e12, 1e11, 2, 16, (16, 16)),
}
# Sizes along one direction of a slice that can be rented.
SIZES = {2: (1, 2, 4, 8, 16), 3: (1, 2, *range(4, 29, 4))}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice."""

    kind: str
    sizes: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        """One of its chips."""
        return CHIPS[self.kind]

    @property
    def count(self) -> int:
        """Chips."""
        return math.prod(self.sizes)

    def __str__(self) -> str:
        return f"{self.kind}:{'x'.join(map(str, self.sizes))}"


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
    """A slice by its name, such as v5p:4x4x8: chips along each direction.

    Raises:
        ValueError: for another one, with the nearest.
    """
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


def _example(text: str) -> str:
    shape = text.partition(":")[2] or "4x4"
    return f"A topology is CHIP:AxB or CHIP:AxBxC, such as v5e:{shape}."
