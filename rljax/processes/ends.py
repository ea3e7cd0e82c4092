"""How processes end: what each says of its end, and which end counts for all of them."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rljax.commands.statuses import CALM, Status

# From the first failure until all processes end. Meanwhile the others say what they have seen: one
# may say that a collective failed before it is known that its neighbour died.
SETTLE_SECONDS = 3.0


class Person(NamedTuple):
    """A process, as others name it."""

    index: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.index} on {self.host} (pid {self.pid})"


class End(NamedTuple):
    """The end of one process.

    Attributes:
        index: of the process.
        status: with which it ends (commands/statuses.py).
        reason: in one line.
        lost: whether the others say so of it, as it says nothing any more.
    """

    index: int
    status: int
    reason: str
    lost: bool = False


class Verdict(NamedTuple):
    """How all processes end.

    Attributes:
        end: the one that counts.
        doing: what each process was doing, in lines.
    """

    end: End
    doing: tuple[str, ...] = ()

    @property
    def calm(self) -> bool:
        """Whether all ended as they were asked to, or had nothing left to do."""
        return self.end.status in CALM


def deciding_end(
    ends: Sequence[End], count: int, *, failed_seconds: float, awaited: Collection[int]
) -> End | None:
    """The end that counts for all processes; None while that is open.

    An error of the user counts before a lost process, and a lost process before what the others saw
    of it. Among equals the first counts.

    Args:
        ends: known so far, in the order of their coming; at most one of each process.
        count: of processes.
        failed_seconds: since the first of them that was not calm.
        awaited: processes for whose message another one waits.
    """
    if failures := [end for end in ends if end.status not in CALM]:
        settled = failed_seconds >= SETTLE_SECONDS or len(ends) == count
        return min(failures, key=_rank) if settled else None
    for end in ends:
        if end.index in awaited:
            return end if end.status != Status.DONE else _too_early(end)
    return max(ends, key=lambda end: end.status) if len(ends) == count else None


def _rank(end: End) -> int:
    if end.status == Status.FAILED:
        return 0
    if end.lost:
        return 1
    return 2 if end.status == Status.RESTART else 3


def _too_early(end: End) -> End:
    return end._replace(status=Status.FAULT, reason="it was done while others waited for it")
