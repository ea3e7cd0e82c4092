"""A compiled program: computations of instructions, read from the compiler's own form of it.

`Compiled.as_text()` ends at the asynchronous updates of large TPU programs, and so does what gives
the module; the serialised executable has them all (executable.py). The numbers of the fields are
those of XLA's `hlo.proto` and `xla_data.proto`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rljax.planning.executable import module_of
from rljax.planning.wire import Message

# Bytes of an element by the number of its type (xla_data.proto, PrimitiveType); of four bits: 0.5.
ELEMENT_BYTES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8, 15: 8, 16: 2},
    **{18: 16, 19: 1, 20: 1, 21: 0.5, 22: 0.5, 23: 1, 24: 1, 25: 1, 26: 0.25, 27: 0.25, 28: 1},
    **{29: 1, 32: 0.5, 33: 1},
}
TUPLE = 13
# What reads and writes no memory: names of other arrays, and constants inside the program.
FREE = frozenset(
    {
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
        *("partition-id", "replica-id", "iota", "opt-barrier", "add-dependency"),
    }
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape of one chip's part of an array, or of several in a tuple."""

    element: int  # PrimitiveType
    sizes: tuple[int, ...] = ()
    space: int = 0  # 0: HBM, else a memory inside of the chip, or that of the host
    parts: tuple["Shape", ...] = ()  # of a tuple

    @classmethod
    def read(cls, message: Message) -> "Shape":
        """From a ShapeProto."""
        return cls(
            element=message.number(2),
            sizes=tuple(message.numbers(3)),
            space=message.message(5).number(8),
            parts=tuple(map(cls.read, message.messages(4))),
        )

    @property
    def bytes(self) -> int:
        """Bytes in any memory, without padding."""
        if self.element == TUPLE:
            return sum(part.bytes for part in self.parts)
        return math.ceil(math.prod(self.sizes) * ELEMENT_BYTES.get(self.element, 0))

    @property
    def hbm_bytes(self) -> int:
        """Bytes in HBM."""
        if self.element == TUPLE:
            return sum(part.hbm_bytes for part in self.parts)
        return 0 if self.space else self.bytes


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction; `message` has what only some kinds have."""

    id: int
    name: str
    kind: str  # opcode
    shape: Shape
    operands: tuple[int, ...]  # ids
    calls: tuple[int, ...]  # ids of computations
    message: Message
    backend: str = ""  # what the compiler has noted for its own use, JSON

    @classmethod
    def read(cls, message: Message, notes: Sequence[str] = ()) -> "Instruction":
        """From a HloInstructionProto; `notes` are those that a module keeps in one place."""
        backend = message.text(43)
        if message.has(99):
            backend = notes[message.message(99).number(2)]
        return cls(
            id=message.number(35),
            name=message.text(1),
            kind=message.text(2),
            shape=Shape.read(message.message(3)),
            operands=tuple(message.numbers(36)),
            calls=tuple(message.numbers(38)),
            message=message,
            backend=backend,
        )

    @property
    def parameter(self) -> int:
        """The number of a parameter."""
        return self.message.number(9)

    @property
    def element_index(self) -> int:
        """Which element a get-tuple-element takes."""
        return self.message.number(13)

    @property
    def target(self) -> str:
        """What a custom call calls."""
        return self.message.text(28)

    @property
    def source(self) -> str:
        """The operation of the traced program that it comes from."""
        return self.message.message(7).text(2)


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by id, operands before what reads them."""

    name: str
    instructions: dict[int, Instruction]
    root: Instruction

    @classmethod
    def read(cls, message: Message, notes: Sequence[str] = ()) -> "Computation":
        """From a HloComputationProto; `notes` as of its instructions."""
        found = [Instruction.read(each, notes) for each in message.messages(2)]
        instructions = {each.id: each for each in found}
        return cls(message.text(1), instructions, instructions[message.number(6)])

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """The instructions whose results one reads."""
        return [self.instructions[operand] for operand in instruction.operands]

    def users(self, instruction: Instruction) -> list[Instruction]:
        """The instructions that read a result."""
        return [i for i in self.instructions.values() if instruction.id in i.operands]

    @property
    def parameters(self) -> list[Instruction]:
        """By their number."""
        found = [i for i in self.instructions.values() if i.kind == "parameter"]
        return sorted(found, key=lambda i: i.parameter)


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program of one chip."""

    computations: dict[int, Computation]
    entry: Computation

    @classmethod
    def read(cls, serialised: bytes) -> "Program":
        """From a serialised HloModuleProto."""
        message = Message(serialised)
        notes = message.texts(22)
        computations = {row.number(5): Computation.read(row, notes) for row in message.messages(3)}
        return cls(computations, computations[message.number(6)])

    @classmethod
    def of(cls, compiled: Any) -> "Program":
        """The program of a `jax.stages.Compiled` for TPUs."""
        return cls.read(module_of(compiled.runtime_executable().serialize()))

    def called(self, instruction: Instruction) -> list[Computation]:
        """The computations that an instruction calls; of a while: body, condition."""
        return [self.computations[number] for number in instruction.calls]
