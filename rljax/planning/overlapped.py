"""Collectives that go on behind other work, written as chains of fusions by the TPU's compiler.

    start   a collective, given to the custom call AsyncCollectiveStart, which makes of it a tuple:
            operand, result, flags
    steps   fusions of any work that also have the collective once more, and hand the tuple on
    done    the collective once more, given to AsyncCollectiveDone

It is one collective, however many links its chain has: that of the start.
"""

from rljax.planning.hlo import Computation, Instruction, Shape

START, DONE = "AsyncCollectiveStart", "AsyncCollectiveDone"


def goes_on(inside: Computation, collective: Instruction) -> bool:
    """Whether a collective of a fusion was begun by an earlier one."""
    if any(user.target == DONE for user in inside.users(collective)):
        return True
    handed_on = inside.root.operands if inside.root.kind == "tuple" else ()
    return collective.id in handed_on and set(collective.operands) <= set(handed_on)


def results(inside: Computation, shape: Shape) -> list[tuple[Instruction, Shape]]:
    """What a fusion writes itself, not only hands on, and the shape of each.

    Args:
        inside: the computation of the fusion.
        shape: of the fusion.
    """
    root = inside.root
    if root.kind == "custom-call" and root.target == DONE:
        return []
    if root.kind == "custom-call" and root.target == START:
        return [(root, shape.parts[1])]
    if root.kind != "tuple":
        return [(root, shape)]
    pairs = zip(inside.operands(root), shape.parts, strict=True)
    return [(each, its) for each, its in pairs if not _handed_on(inside, each)]


def _handed_on(inside: Computation, element: Instruction) -> bool:
    return element.kind == "parameter" or goes_on(inside, element)


def readers(inside: Computation, array: Instruction) -> list[Instruction]:
    """What reads an array inside of a fusion; handing it on is no reading."""
    return [
        user
        for user in inside.users(array)
        if user is not inside.root or user.kind not in ("tuple", "custom-call")
        if not goes_on(inside, user)
    ]
