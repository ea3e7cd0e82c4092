"""Which chips exchange with each other, and along which axes of the mesh."""

import math
from collections.abc import Sequence

import numpy as np

from rljax.planning.wire import Message

Groups = tuple[tuple[int, ...], ...]


def groups_of(message: Message, kind: str, partitions: int) -> Groups:
    """The groups of a collective, by the numbers of partitions.

    Args:
        message: the HloInstructionProto.
        kind: of the collective; a permutation has pairs.
        partitions: chips that run the program; all are one group where none is given.
    """
    if kind == "collective-permute":
        return tuple((pair.number(1), pair.number(2)) for pair in message.messages(52))
    listed = message.messages(49) or message.message(87).messages(1)
    if listed:
        return tuple(tuple(group.numbers(1)) for group in listed)
    counted = message.message(92) if message.has(92) else message.message(87).message(2)
    if not counted.number(1):
        return (tuple(range(partitions)),)
    shape, order = counted.numbers(3), counted.numbers(4)
    ids = np.arange(math.prod(shape)).reshape(shape).transpose(order)
    rows = ids.reshape(counted.number(1), counted.number(2))
    return tuple(tuple(row) for row in rows.tolist())


def axes_of(groups: Groups, sizes: dict[str, int]) -> tuple[str, ...]:
    """The axes of a mesh along which the members of a group differ.

    Args:
        groups: by number; numbers count along the mesh, the last axis fastest.
        sizes: axis -> size.
    """
    shape = tuple(sizes.values())
    different = np.zeros(len(shape), bool)
    for group in groups:
        places = np.array(np.unravel_index(np.array(group), shape))
        different |= (places != places[:, :1]).any(axis=1)
    return tuple(axis for axis, apart in zip(sizes, different, strict=True) if apart)


def extents(groups: Groups, places: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Along how many places of each direction of the slice the members of a group lie, at most.

    Args:
        groups: by number.
        places: coordinates of the chip of each number.
    """
    where = np.array(places)
    most = np.ones(where.shape[1], int)
    for group in groups:
        counts = [len(set(column)) for column in where[list(group)].T.tolist()]
        most = np.maximum(most, counts)
    return tuple(most.tolist())
