"""What a compiled program does on one chip: operations, bytes, collectives; loops counted out.

The compiler's own `cost_analysis` counts the body of a loop once.
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from rljax.planning.between_slices import exchanged
from rljax.planning.groups import Groups, groups_of
from rljax.planning.hlo import FREE, Computation, Instruction, Program
from rljax.planning.kernels import splash_flops
from rljax.planning.loops import trips
from rljax.planning.overlapped import goes_on, readers, results
from rljax.planning.wire import Message

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# What reads only a part of its first operand: as much as it returns.
SLICES = ("dynamic-slice", "slice", "gather")
# The end of something whose beginning was counted.
ENDS = ("-done", "-update")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A kind of collective over the same groups.

    Attributes:
        kind: of `COLLECTIVES`.
        groups: partitions that exchange with each other; of a permutation pairs (from, to).
        bytes: of the larger of what a chip puts in and gets out, summed over `count`.
        count: how often.
    """

    kind: str
    groups: tuple[tuple[int, ...], ...]
    bytes: float
    count: float


@dataclasses.dataclass
class Costs:
    """What one run of a program costs one chip.

    Attributes:
        flops: of matrix products and of kernels; a multiplication and an addition are two.
        hbm_bytes: read from and written to HBM.
        cycles: the compiler's estimates, where it has noted one.
        collectives: by kind and groups.
        kernels: custom calls, by what they call, whose operations are not known.
        endless: loops without a bound that the program knows; their bodies are counted once.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0
    cycles: float = 0.0
    collectives: list[Collective] = dataclasses.field(default_factory=list)
    kernels: Counter = dataclasses.field(default_factory=Counter)
    endless: list[str] = dataclasses.field(default_factory=list)


def costs_of(
    program: Program,
    partitions: int,
    assumed: Mapping[str, Sequence[float]] | None = None,
    numbers: Mapping[int, int] | None = None,
) -> Costs:
    """Walks a program.

    Args:
        program: of one chip.
        partitions: chips that run it.
        assumed: by the end of the name of an operation, one number for each instruction that comes
            from it, in their order. Of loops whose bound depends on data: how often they run. Of
            kernels: the share of the cost they state that is taken.
        numbers: a chip's number -> its partition, of programs over several slices.
    """
    walk = _Walk(program, partitions, assumed or {}, numbers or {})
    walk.enter(program.entry, 1.0, in_memory=True)
    for (kind, groups), (size, count) in walk.exchanged.items():
        walk.costs.collectives.append(Collective(kind, groups, size, count))
    return walk.costs


class _Walk:
    """Adds up what instructions cost, times how often they run."""

    def __init__(
        self,
        program: Program,
        partitions: int,
        assumed: Mapping[str, Sequence[float]],
        numbers: Mapping[int, int],
    ) -> None:
        self.program, self.partitions, self.costs = program, partitions, Costs()
        self.assumed, self.numbers = assumed, numbers
        self.met: Counter = Counter()  # instructions of each operation in `assumed`
        self.exchanged: dict[tuple, tuple[float, float]] = {}

    def enter(self, computation: Computation, times: float, *, in_memory: bool) -> None:
        """Counts a computation; inside of a fusion (not `in_memory`) nothing touches HBM."""
        for instruction in computation.instructions.values():
            if instruction.kind in FREE or instruction.kind.endswith(ENDS):
                continue
            self._count(computation, instruction, times, in_memory)

    def _count(
        self, computation: Computation, instruction: Instruction, times: float, in_memory: bool
    ) -> None:
        called = self.program.called(instruction)
        kind = instruction.kind.removesuffix("-start")
        if kind == "while":
            count = trips(self.program, computation, instruction)
            if count is None:
                count = self._assumed(instruction)
            if count is None:
                self.costs.endless.append(instruction.source or instruction.name)
                count = 1
            if count:
                self.enter(called[0], times * count, in_memory=in_memory)
            return
        if kind == "conditional":
            self.enter(self._longest(called), times, in_memory=in_memory)
            return
        if kind in ("call", "async"):
            for each in called:
                self.enter(each, times, in_memory=in_memory)
            return
        if kind == "custom-call":
            # Of a loop over what is in use of an array, this is the share.
            share = self._assumed(instruction)
            times *= 1 if share is None else share
        self.costs.cycles += times * _cycles(instruction)
        if in_memory:
            self.costs.hbm_bytes += times * self._bytes(computation, instruction)
        if kind == "fusion":
            for each in called:
                self.enter(each, times, in_memory=False)
        elif kind in COLLECTIVES:
            if in_memory or not goes_on(computation, instruction):
                self._exchange(computation, instruction, kind, times, fused=not in_memory)
        elif kind == "send":
            self._send(computation, instruction, times)
        elif kind == "convolution":
            self.costs.flops += times * convolution_flops(computation, instruction)
        elif kind == "dot":
            self.costs.flops += times * dot_flops(computation, instruction)
        elif kind == "custom-call":
            self._kernel(computation, instruction, times)

    def _assumed(self, instruction: Instruction) -> float | None:
        """The next number of those that are given for the operation; None where there is none."""
        for name, given in self.assumed.items():
            if instruction.source.endswith(name):
                number = self.met[name]
                self.met[name] += 1
                return given[number] if number < len(given) else None
        return None

    def _longest(self, branches: list[Computation]) -> Computation:
        """The branch with most operations, then most bytes."""

        def cost(branch: Computation) -> tuple[float, float]:
            walk = _Walk(self.program, self.partitions, self.assumed, self.numbers)
            walk.enter(branch, 1.0, in_memory=True)
            return walk.costs.flops, walk.costs.hbm_bytes

        return max(branches, key=cost)

    def _kernel(self, computation: Computation, instruction: Instruction, times: float) -> None:
        """A custom call: the operations that it has stated or that are known, else its name."""
        if not instruction.backend.startswith("{"):
            return
        call = json.loads(instruction.backend).get("custom_call_config", {})
        stated = call.get("cost_estimate", {})
        if "flops" in stated:
            self.costs.flops += times * float(stated["flops"])
        elif call.get("body"):
            flops = splash_flops(self.program, computation, instruction)
            if flops is None:
                self.costs.kernels[instruction.source or instruction.target] += times
            else:
                self.costs.flops += times * flops

    def _exchange(
        self,
        computation: Computation,
        instruction: Instruction,
        kind: str,
        times: float,
        *,
        fused: bool,
    ) -> None:
        given = sum(each.shape.bytes for each in computation.operands(instruction))
        shape = instruction.shape
        if instruction.kind.endswith("-start") and shape.parts and kind != "all-reduce":
            taken = shape.parts[1].bytes
        else:
            taken = shape.bytes
        groups = groups_of(instruction.message, kind, self.partitions)
        if kind == "all-reduce" and fused and _scattered(computation, instruction, len(groups[0])):
            kind = "reduce-scatter"
        self._add(kind, groups, max(given, taken), times)

    def _send(self, computation: Computation, instruction: Instruction, times: float) -> None:
        """What goes to other slices; its `recv` is the same exchange."""
        found = exchanged(instruction.message, self.numbers)
        if found is None:
            return
        kind, groups = found
        given = computation.operands(instruction)[0].shape.bytes
        # Of a gather what a chip takes is larger: the parts of all members.
        self._add(kind, groups, given * (len(groups[0]) if kind == "all-gather" else 1), times)

    def _add(self, kind: str, groups: Groups, size: float, times: float) -> None:
        bytes_before, count = self.exchanged.get((kind, groups), (0.0, 0.0))
        self.exchanged[kind, groups] = bytes_before + times * size, count + times

    def _bytes(self, computation: Computation, instruction: Instruction) -> float:
        """Bytes of HBM that an instruction reads and writes."""
        operands = computation.operands(instruction)
        written = instruction.shape.hbm_bytes
        if instruction.kind == "fusion":
            return _fusion_bytes(self.program, instruction, operands)
        if instruction.kind in SLICES:
            return written + min(operands[0].shape.hbm_bytes, instruction.shape.bytes)
        if instruction.kind == "dynamic-update-slice":
            return 2 * operands[1].shape.bytes if written else operands[1].shape.hbm_bytes
        if instruction.kind == "send":  # its result is its operand by another name
            return operands[0].shape.hbm_bytes
        if instruction.kind == "copy-start":
            written = instruction.shape.parts[0].hbm_bytes
        elif instruction.kind.endswith("-start") and instruction.shape.parts:
            written = sum(part.hbm_bytes for part in instruction.shape.parts[1:2])
        return written + sum(each.shape.hbm_bytes for each in operands)


def read_bytes(program: Program, inside: Computation, array: Instruction) -> float:
    """Bytes that a fusion reads of an array: all of it, or the slices that it takes."""
    total = 0.0
    for user in readers(inside, array):
        if user.kind in SLICES and user.operands[0] == array.id:
            total += user.shape.bytes
        elif user.kind == "bitcast":
            total += read_bytes(program, inside, user)
        elif user.kind == "fusion":
            (called,) = program.called(user)
            for place, operand in enumerate(user.operands):
                if operand == array.id and _is_bitcast(called, called.parameters[place]):
                    total += read_bytes(program, inside, user)
                elif operand == array.id:
                    total += read_bytes(program, called, called.parameters[place])
        else:
            return array.shape.bytes
    return total


def _is_bitcast(inside: Computation, parameter: Instruction) -> bool:
    """Whether what a fusion gives is a parameter of it by another name."""
    given = inside.root
    while given.kind == "bitcast":
        (given,) = inside.operands(given)
    return given is parameter


def _fusion_bytes(program: Program, instruction: Instruction, operands: list[Instruction]) -> float:
    """Bytes of HBM of a fusion: whole operands, or the slices of them that it takes."""
    (called,) = program.called(instruction)
    total, updated = 0.0, set()
    for result, shape in results(called, instruction.shape):
        if result.kind == "dynamic-update-slice" and shape.hbm_bytes:
            updated.add(result.operands[0])
            total += called.operands(result)[1].shape.bytes
        else:
            total += shape.hbm_bytes
    for parameter, operand in zip(called.parameters, operands, strict=True):
        if operand.shape.hbm_bytes and parameter.id not in updated:
            total += min(read_bytes(program, called, parameter), operand.shape.hbm_bytes)
    return total


def _scattered(computation: Computation, instruction: Instruction, members: int) -> bool:
    """Whether all that is read of an all-reduce is a chip's own part.

    In one fusion the two are the TPU's reduce-scatter, over groups along one direction of the
    slice. Over more directions the compiler makes an all-reduce, and a slice of it afterwards.
    """
    users = [i for i in computation.users(instruction) if i.kind != "bitcast"]
    part = instruction.shape.bytes / members
    return bool(users) and all(i.kind == "dynamic-slice" and i.shape.bytes <= part for i in users)


def _cycles(instruction: Instruction) -> float:
    """The compiler's estimate for one run, 0 where it has none."""
    if "estimated_cycles" not in instruction.backend:
        return 0.0
    window = json.loads(instruction.backend).get("window_config", {})
    return max(float(window.get("estimated_cycles", 0)), 0.0)


def dot_flops(computation: Computation, instruction: Instruction) -> float:
    """2 x elements of the result x elements that are summed for each."""
    left = computation.operands(instruction)[0].shape.sizes
    contracted = instruction.message.message(30).numbers(1)
    summed = math.prod(left[axis] for axis in contracted)
    return 2.0 * math.prod(instruction.shape.sizes) * summed


def convolution_flops(computation: Computation, instruction: Instruction) -> float:
    """2 x products of a convolution, without those with padding.

    The TPU's compiler writes matrix products so, also batched ones: their axes are spatial.
    """
    message = instruction.message
    left, right = (each.shape.sizes for each in computation.operands(instruction))
    axes = message.message(16)
    groups = max(message.number(58), 1)  # of the batch
    total = 2.0 * left[axes.number(7)] / groups  # batch
    total *= right[axes.number(3)] * right[axes.number(4)]  # inputs and outputs of the kernel
    spatial = zip(message.message(15).messages(1), axes.numbers(11), axes.numbers(12), strict=True)
    for window, inputs, outputs in spatial:
        total *= _pairs(window, left[inputs], instruction.shape.sizes[outputs])
    return total


def _pairs(window: Message, inputs: int, outputs: int) -> int:
    """Pairs of a place of the kernel and one of the result that meet a place of the input."""
    size, stride = window.number(1), max(window.number(2), 1)
    dilation, spread = max(window.number(5), 1), max(window.number(6), 1)
    count = 0
    for kernel in range(size):
        offset = kernel * dilation - window.number(3)
        for output in range(outputs):
            place = output * stride + offset
            count += 0 <= place <= (inputs - 1) * spread and place % spread == 0
    return count
