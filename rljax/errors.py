"""Errors that a user can act on: what was given, what is allowed, and where to change it."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

# Letters of another library's message that are shown.
LONGEST = 400


def unknown_name(kind: str, given: object, known: Iterable[str], field: str) -> ValueError:
    """Builds (does not raise) the error for a name that is not in a table.

    Args:
        kind: what the name stands for, such as "reward".
        given: what the user wrote.
        known: every allowed name.
        field: the config field to change, such as "config.rewards".
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(name) for name in names) or "none"
    return ValueError(f"Unknown {kind} {given!r}; known: {listed} ({field}).{hint}")


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
    text = " ".join(str(error).split()).rstrip(".")
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]} ...") or type(error).__name__
