"""Errors that a user can act on: what was given, what is allowed, and where to change it."""

import contextlib
import difflib
import reprlib
from collections.abc import Iterable, Iterator

# Letters of another library's message that are shown.
LONGEST = 400

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlong = 40


class StoppedError(RuntimeError):
    """A run cannot go on, for a reason that lies in the run and not in the code."""


class SystemFailure(StoppedError):
    """Machines failed, not the run: the same command continues it once they are back."""


def unknown_name(
    kind: str,
    given: object,
    known: Iterable[str],
    field: str,
    *,
    more: Iterable[str] = (),
    hint: str = "",
) -> ValueError:
    """Builds (does not raise) the error for a name that is not in a table.

    Args:
        kind: what the name stands for, such as "reward".
        given: what the user wrote.
        known: every allowed name; all are listed.
        field: the config field to change, such as "config.rewards".
        more: names that may be meant as well, but are not listed.
        hint: one more sentence, said instead of the nearest name.
    """
    names = sorted(known)
    near = (
        slip_of(str(given), names) or slip_of(str(given), sorted(more)) or like(str(given), names)
    )
    hint = hint or (f"Did you mean {near!r}?" if near else "")
    listed = ", ".join(repr(name) for name in names) or "none"
    return ValueError(f"Unknown {kind} {shown(given)}; known: {listed} ({field}). {hint}".rstrip())


def slip_of(given: str, names: Iterable[str]) -> str | None:
    """The name that is a slip of the keys away, if there is one: a third of its letters at most."""
    slips = {name: slips_between(given.lower(), name.lower()) for name in names}
    closest = min(slips, key=slips.__getitem__, default=None)
    if closest is None or slips[closest] > min(len(given), len(closest)) // 3:
        return None
    return closest


def like(given: str, names: Iterable[str]) -> str | None:
    """The name that has most in common with what was given, if that is at least half."""
    alike = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return alike[0] if alike else None


def slips_between(one: str, other: str) -> int:
    """Letters added, left out, changed, or swapped with the next (Damerau, restricted)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, target in enumerate(other, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (letter != target))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == target:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def shown(value: object) -> str:
    """A value for an error, cut where it is long."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a bottomless list
        return f"a {type(value).__name__} too large to print"


def typed(value: object) -> str:
    """A value of a data file for an error: its beginning, and its type."""
    return "null" if value is None else f"{repr(value)[:80]} ({type(value).__name__})"


@contextlib.contextmanager
def blamed(where: str, *kinds: type[BaseException], field: str) -> Iterator[None]:
    """Turns exceptions of another library into one ValueError that names the place.

    It stands around single calls of that library, never around code of our own.

    Args:
        where: what was read, such as "rows.jsonl, line 2".
        kinds: exceptions that the call is known to raise.
        field: the config field or the flag to change.

    Raises:
        ValueError: instead of one of `kinds`, which is kept as its cause.
    """
    try:
        yield
    except kinds as error:
        raise ValueError(f"{where}: {reason(error)} ({field}).") from error


def reason(error: BaseException) -> str:
    """What an exception says, in one line of bounded length; its kind where it says nothing."""
    try:
        text = " ".join(str(error).split()).rstrip(".")
    except Exception:  # a user's exception may fail to say what it is
        text = ""
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]} ...") or type(error).__name__
