"""What the value of a field may be, besides its type. A part checks its own fields itself."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """A rule for the value of a field."""

    fits: Callable[[Any], bool]
    words: str  # what is allowed, for errors


def one_of(options: Iterable[str]) -> Limit:
    """One of a few names."""
    names = tuple(options)
    return Limit(lambda x: x in names, f"one of {', '.join(map(repr, names))}")


POSITIVE = Limit(lambda x: x > 0, "> 0")
NOT_NEGATIVE = Limit(lambda x: x >= 0, ">= 0")
COUNT = Limit(lambda x: x >= 1, "a whole number >= 1")
COUNT_OR_0 = Limit(lambda x: x >= 0, "a whole number >= 0")
SHARE = Limit(lambda x: 0 <= x <= 1, "in [0, 1]")
