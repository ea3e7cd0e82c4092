"""What a program exchanges between slices, over the network of the data center.

The compiler makes of it a pair of instructions, `send` and `recv`: a chip gives its part to its
host, the hosts exchange, and the chip takes the result. Attributes of both say what they are:

    _xla_megascale_transfer_type   ALL_REDUCE, ...
    _xla_megascale_target          who takes part: {1,2}x{0:3}, the chips 0 to 3 of slices 1 and 2,
                                   each with the same one of the other slice; groups of chips,
                                   {{100000,200000},...}; of a permutation {{100000->200000},...}

A chip's number is 100,000 x its slice, from 1, + its place in it.
"""

import re
from collections.abc import Mapping

from rljax.planning.groups import Groups
from rljax.planning.wire import Message

TYPE, TARGET = "_xla_megascale_transfer_type", "_xla_megascale_target"
KINDS = {
    "ALL_REDUCE": "all-reduce",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_GATHER": "all-gather",
    "ALL_TO_ALL": "all-to-all",
    "ONE_TO_ONE": "collective-permute",
}
SLICE = 100_000
PRODUCT = re.compile(r"\{([\d:,]+)\}x\{([\d:,]+)\}")
GROUP = re.compile(r"\{([\d,]+|\d+->\d+)\}")


def attributes(message: Message) -> dict[str, str]:
    """The attributes of an HloInstructionProto that its maker has written."""
    return {each.text(1): each.text(2) for each in message.message(68).messages(1)}


def exchanged(message: Message, numbers: Mapping[int, int]) -> tuple[str, Groups] | None:
    """The kind of an exchange between slices, and who takes part.

    Args:
        message: of a `send`.
        numbers: a chip's number -> its partition.

    Returns:
        Kind (costs.py) and groups of partitions; None for a `send` of another sort.

    Raises:
        ValueError: for a sort of exchange, or a way to say who takes part, that is not known.
    """
    given = attributes(message)
    if TYPE not in given:
        return None
    if given[TYPE] not in KINDS:
        raise ValueError(
            f"The program exchanges {given[TYPE]!r} between slices; known: {', '.join(KINDS)}."
        )
    members = groups_of_target(given.get(TARGET, ""))
    return KINDS[given[TYPE]], tuple(tuple(numbers[chip] for chip in group) for group in members)


def groups_of_target(target: str) -> Groups:
    """Groups of chips by their numbers; of a permutation the pairs (from, to)."""
    if found := PRODUCT.fullmatch(target):
        slices, places = _listed(found[1]), _listed(found[2])
        return tuple(tuple(SLICE * each + place for each in slices) for place in places)
    groups = GROUP.findall(target)
    if not groups:
        raise ValueError(f"The program exchanges between slices with {target!r}, which is unknown.")
    return tuple(tuple(map(int, re.split("->|,", group))) for group in groups)


def _listed(text: str) -> list[int]:
    """The numbers of a list whose items may be ranges: "0:3,5" is 0, 1, 2, 3, 5."""
    found: list[int] = []
    for item in text.split(","):
        first, _, last = item.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found
