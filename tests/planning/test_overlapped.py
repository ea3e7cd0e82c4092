"""A collective that goes on behind other work is one, and its buffers are written once."""

from rljax.planning.costs import costs_of
from rljax.planning.hlo import Computation, Instruction, Program, Shape
from rljax.planning.wire import Message

BF16, TUPLE = 16, 13
SHARD, WHOLE, WORK = Shape(BF16, (64, 128)), Shape(BF16, (256, 128)), Shape(BF16, (32, 32))
CHAIN = Shape(TUPLE, parts=(SHARD, WHOLE))


def instruction(id, kind, shape, *operands, calls=(), message=b""):
    return Instruction(id, f"{kind}.{id}", kind, shape, operands, calls, Message(message))


def parameter(id, shape, number):
    return instruction(id, "parameter", shape, message=bytes([9 << 3, number]))


def element(id, shape, source, index):
    return instruction(id, "get-tuple-element", shape, source, message=bytes([13 << 3, index]))


def custom_call(id, shape, target, *operands):
    field = bytes([28 << 3 & 127 | 128 | 2, 28 >> 4, len(target)])  # of two bytes
    message = field + target.encode()
    return instruction(id, "custom-call", shape, *operands, message=message)


def computation(name, *instructions):
    return Computation(name, {each.id: each for each in instructions}, instructions[-1])


def program():
    """A gather that begins, goes on behind a fusion of other work, and ends."""
    start = computation(
        "start",
        parameter(1, SHARD, 0),
        instruction(2, "all-gather", WHOLE, 1),
        custom_call(3, CHAIN, "AsyncCollectiveStart", 2),
    )
    step = computation(
        "step",
        parameter(1, SHARD, 0),
        parameter(2, WHOLE, 1),
        parameter(3, WORK, 2),
        instruction(4, "all-gather", WHOLE, 1),
        instruction(5, "negate", WORK, 3),
        instruction(6, "tuple", Shape(TUPLE, parts=(WORK, SHARD, WHOLE, WHOLE)), 5, 1, 2, 4),
    )
    done = computation(
        "done",
        parameter(1, SHARD, 0),
        parameter(2, WHOLE, 1),
        instruction(3, "all-gather", WHOLE, 1),
        custom_call(4, WHOLE, "AsyncCollectiveDone", 1, 2, 3),
    )
    entry = computation(
        "entry",
        parameter(1, SHARD, 0),
        parameter(2, WORK, 1),
        instruction(3, "fusion", CHAIN, 1, calls=(1,)),
        element(4, SHARD, 3, 0),
        element(5, WHOLE, 3, 1),
        instruction(6, "fusion", step.root.shape, 4, 5, 2, calls=(2,)),
        element(7, SHARD, 6, 1),
        element(8, WHOLE, 6, 3),
        instruction(9, "fusion", WHOLE, 7, 8, calls=(3,)),
    )
    return Program({0: entry, 1: start, 2: step, 3: done}, entry)


def test_a_chain_is_one_collective():
    costs = costs_of(program(), partitions=4)
    (gather,) = costs.collectives
    assert (gather.kind, gather.bytes, gather.count) == ("all-gather", WHOLE.bytes, 1)


def test_what_a_chain_hands_on_is_not_traffic():
    costs = costs_of(program(), partitions=4)
    assert costs.hbm_bytes == SHARD.bytes + WHOLE.bytes + 2 * WORK.bytes


def test_a_gather_in_a_fusion_of_its_own_counts():
    alone = program()
    started = Program(alone.computations, computation("entry", *_first(alone.entry, 3)))
    assert [each.count for each in costs_of(started, partitions=4).collectives] == [1]


def _first(entry, count):
    return list(entry.instructions.values())[:count]
