"""How often the body of a loop runs, as far as the compiled program says."""

from rljax.planning.hlo import Computation, Instruction, Program

# Copies of a number by another name.
SAME = frozenset({"copy", "copy-done", "copy-start", "bitcast", "convert", "reshape", "broadcast"})
# Where the numbers of a constant lie in its literal: s32, s64, u32, u64.
INTEGERS = (4, 5, 6, 7)


def constant(instruction: Instruction) -> int | None:
    """The whole number of a constant that holds one."""
    literal = instruction.message.message(8)
    for field in INTEGERS:
        if len(found := literal.numbers(field)) == 1:
            return found[0]
    return None


class Scalars:
    """Whole numbers of a computation, given those of what it is called with."""

    def __init__(self, computation: Computation, given: list[int | str | None]) -> None:
        self.computation = computation
        self.given = given  # of each parameter, or of each element of its one tuple

    def value(self, instruction: Instruction) -> int | str | None:
        """A number, a name in `given`, or None where it is neither."""
        if instruction.kind == "constant":
            return constant(instruction)
        if instruction.kind == "parameter":
            return self._given(instruction.parameter)
        operands = self.computation.operands(instruction)
        if instruction.kind in SAME and operands:
            return self.value(operands[0])
        if instruction.kind == "get-tuple-element":
            (source,) = operands
            if source.kind == "parameter":
                return self._given(instruction.element_index)
            if source.kind == "tuple":
                return self.value(self.computation.operands(source)[instruction.element_index])
        return None

    def _given(self, number: int) -> int | str | None:
        return self.given[number] if number < len(self.given) else None


def trips(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """How often the body of a while runs at most.

    A loop counts up from its first number by one step, while it is below a bound; it may end
    earlier for another reason. None: the bound is not a number of the program.

    Args:
        program: the program.
        computation: that the loop stands in.
        loop: a while.
    """
    body, condition = program.called(loop)
    (start,) = computation.operands(loop)
    count = len(start.shape.parts)
    firsts: list[int | str | None] = [None] * count
    if start.kind == "tuple":
        around = Scalars(computation, [])
        firsts = [around.value(each) for each in computation.operands(start)]
    steps = [_step(body, index) for index in range(count)]
    # What the loop leaves as it is has the number that it began with; a counter has its name.
    known: list[int | str | None] = [
        f"#{index}" if step else (firsts[index] if step == 0 else None)
        for index, step in enumerate(steps)
    ]
    least = None
    for counter, bound in _bounds(program, condition, known):
        index = int(counter[1:])
        first, step = firsts[index], steps[index]
        if isinstance(first, int) and step and step > 0:
            times = max(-(-(bound - first) // step), 0)
            least = times if least is None else min(least, times)
    return least


def _step(body: Computation, index: int) -> int | None:
    """What a body adds to an element of its tuple; None: something else happens to it."""
    if body.root.kind != "tuple":
        return None
    inside = Scalars(body, [f"#{number}" for number in range(len(body.root.operands))])
    new = body.operands(body.root)[index]
    if inside.value(new) == f"#{index}":
        return 0
    while new.kind in SAME and new.operands:
        new = body.operands(new)[0]
    if new.kind != "add":
        return None
    values = [inside.value(each) for each in body.operands(new)]
    if f"#{index}" not in values:
        return None
    values.remove(f"#{index}")
    return values[0] if isinstance(values[0], int) else None


def _bounds(
    program: Program, condition: Computation, known: list[int | str | None]
) -> list[tuple[str, int]]:
    """(name of a counter, bound) of the comparisons that a condition needs to hold, all of them."""
    inside = Scalars(condition, known)
    found, waiting = [], [condition.root]
    while waiting:
        each = waiting.pop()
        operands = condition.operands(each)
        if each.kind in ("and", *SAME):
            waiting += operands
        elif each.kind == "fusion":
            (called,) = program.called(each)
            found += _bounds(program, called, [inside.value(operand) for operand in operands])
        elif each.kind == "compare":
            left, right = (inside.value(operand) for operand in operands)
            direction = each.message.text(63)
            if direction == "GT":
                left, right, direction = right, left, "LT"
            if direction == "LT" and isinstance(left, str) and isinstance(right, int):
                found.append((left, right))
    return found
