"""Operations of attention kernels that do not state their own: Pallas' splash attention on TPU.

A splash kernel goes over blocks of queries and keys. Which of these it computes is a constant of
the program, its block mask; the others are skipped. A block that is computed is computed whole,
masked or not.
"""

import math
from collections.abc import Iterator

from rljax.planning.hlo import Computation, Instruction, Program
from rljax.planning.loops import SAME

# Products of a block of queries with one of keys, by a part of the kernel's name:
#   forward   scores, mix of values
#   dkv       scores, gradients of values, of weights and of keys
#   dq        scores, gradients of weights and of queries
PRODUCTS = {"_fwd": 2, "_dkv": 4, "_dq": 3}
# Operands: what is fetched next and the block mask, both [heads or 1, query blocks, key blocks] of
# whole numbers; then the queries [..., heads, slots, head_dim], the keys and the values, the first
# ones of these types: f16, f32, bf16. Of a window the mask has no more key blocks (of dkv: query
# blocks) than the row with most has to compute; its other side has all blocks. Queries and keys
# have as many slots, and blocks of one size (models/attention/splash.py).
FLOATS = (10, 11, 16)
S8, U8 = 15, 3  # where a literal has numbers of eight bits


def splash_flops(program: Program, computation: Computation, kernel: Instruction) -> float | None:
    """Operations of a splash kernel; None for any other custom call.

    Where the block mask is no constant that is found, all blocks count.
    """
    products = next((n for part, n in PRODUCTS.items() if f"splash_mha{part}" in kernel.source), 0)
    if not products:
        return None
    operands = computation.operands(kernel)
    first = next(n for n, each in enumerate(operands) if each.shape.element in FLOATS)
    queries, keys, share = operands[first].shape, operands[first + 1].shape, 1.0
    if first >= 2:
        mask = operands[first - 1]
        blocks = computed_blocks(program, computation, mask)
        heads, *sides = mask.shape.sizes
        share = 1.0 if blocks is None else blocks / (heads * max(sides) ** 2)
    return 2.0 * products * share * math.prod(queries.sizes) * keys.sizes[-2]


def computed_blocks(program: Program, computation: Computation, mask: Instruction) -> int | None:
    """How many blocks of a block mask are computed; None where it is no constant."""
    found = origin(program, computation, mask)
    if found.kind != "constant":
        return None
    literal = found.message.message(8)
    numbers = literal.content(S8) or literal.content(U8)
    if not numbers:
        return None
    # Where everything is seen it is one number, broadcast.
    copies = math.prod(mask.shape.sizes) // len(numbers)
    return copies * sum(number != 0 for number in numbers)


def origin(program: Program, computation: Computation, array: Instruction) -> Instruction:
    """What an array is before it was handed on: copied, put into a tuple, kept by loops."""
    while True:
        operands = computation.operands(array)
        if array.kind in SAME and operands:
            array = operands[0]
        elif array.kind != "get-tuple-element":
            return array
        else:
            found = _element(program, computation, operands[0], array.element_index)
            if found is None:
                return array
            computation, array = found


def _element(
    program: Program, computation: Computation, source: Instruction, index: int
) -> tuple[Computation, Instruction] | None:
    """An element of a tuple, and the computation that it stands in; None where it was changed."""
    if source.kind == "tuple":
        return computation, computation.operands(source)[index]
    if source.kind == "while":
        body = program.called(source)[0]
    elif source.kind == "parameter":
        body = computation
        around = [(c, i) for c, i in _loops(program) if program.called(i)[0] is body]
        if len(around) != 1:
            return None
        ((computation, source),) = around
    else:
        return None
    if not _keeps(body, index):
        return None
    (start,) = computation.operands(source)
    return _element(program, computation, start, index)


def _keeps(body: Computation, index: int) -> bool:
    """Whether a loop's body hands an element of its tuple on as it is."""
    if body.root.kind != "tuple":
        return False
    element = body.operands(body.root)[index]
    taken = element.kind == "get-tuple-element" and element.element_index == index
    return taken and body.operands(element)[0].kind == "parameter"


def _loops(program: Program) -> Iterator[tuple[Computation, Instruction]]:
    for computation in program.computations.values():
        for instruction in computation.instructions.values():
            if instruction.kind == "while":
                yield computation, instruction
