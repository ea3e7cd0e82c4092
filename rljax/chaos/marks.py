"""The marks of a run (training/run/phases.py), read while it writes them."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

# Before the first mark: imports, config, data.
START = "start"

# Marked as they begin, and not as they end.
INSTANT = ("rename",)


class Mark(NamedTuple):
    """A phase begins, or ends ("-update")."""

    time: float  # seconds since 1970
    process: int
    name: str


class MarkReader:
    """Reads the lines that have come since the last call."""

    def __init__(self, path: Path) -> None:
        """The file may not be there yet."""
        self.path, self._read = path, 0

    def new(self) -> list[Mark]:
        """Whole lines only; a rest is read next time."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        rows = [line.split() for line in whole.decode().splitlines()]
        return [Mark(float(when), int(process), name) for when, process, name in rows]


class Habits(NamedTuple):
    """How an uninterrupted run goes."""

    counts: Mapping[str, int]  # how often each phase comes
    seconds: Mapping[str, float]  # how long it usually takes

    @property
    def phases(self) -> list[str]:
        """All phases that come, the start first."""
        return [START, *sorted(set(self.counts) - {START})]


def habits(marks: Iterable[Mark], began: float) -> Habits:
    """What the marks of one whole run say; of several processes the counts are of all of them.

    Args:
        marks: in order.
        began: when the run was started, seconds since 1970.
    """
    marks = list(marks)
    counts = Counter(mark.name for mark in marks if not mark.name.startswith("-"))
    spans: dict[str, list[float]] = {name: [] for name in counts}
    open_at: dict[tuple[int, str], list[float]] = {}
    for mark in marks:
        name = mark.name.removeprefix("-")
        key = (mark.process, name)
        if mark.name == name:
            open_at.setdefault(key, []).append(mark.time)
        elif open_at.get(key):
            spans[name].append(mark.time - open_at[key].pop())
    seconds = {name: statistics.median(found) if found else 0.0 for name, found in spans.items()}
    first = min((mark.time for mark in marks), default=began)
    return Habits(dict(counts) | {START: 1}, seconds | {START: max(0.0, first - began)})


def phase_at(marks: Iterable[Mark], process: int, when: float, aimed: str) -> str:
    """The phase that a process was in: the one aimed at if it was open, else the innermost one.

    Args:
        marks: in order.
        process: whose.
        when: seconds since 1970.
        aimed: a phase.
    """
    mine = [mark for mark in marks if mark.process == process and mark.time <= when]
    if not mine:
        return START
    if mine[-1].name in INSTANT:
        return mine[-1].name
    opened: list[str] = []
    for mark in mine:
        name = mark.name.removeprefix("-")
        if mark.name == name and name not in INSTANT:
            opened.append(name)
        elif name in opened:
            opened.reverse()  # the last of that name ends
            opened.remove(name)
            opened.reverse()
    if aimed in opened:
        return aimed
    return opened[-1] if opened else "between"
