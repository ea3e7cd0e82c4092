"""What a data file holds: columns and their types, conventions of prompts, lengths."""

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from rljax.data.conversations import is_conversation, read_messages

# In this order: a bool is an int to Python.
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true/false"),
    (str, "text"),
    (int, "whole number"),
    (float, "float"),
    (Decimal, "decimal"),
    (Mapping, "object"),
    (list, "list"),
    (bytes, "bytes"),
    (datetime.date, "date"),
    (datetime.time, "time"),
)


class Column(NamedTuple):
    """A column of a file.

    Attributes:
        name: of the column.
        kinds: how many values there are of each type; "null" counts nulls and rows without it.
        example: the first value that is not null.
    """

    name: str
    kinds: Counter[str]
    example: Any


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """The columns of all rows, in the order in which they first occur."""
    kinds: dict[str, Counter[str]] = {}
    examples: dict[str, Any] = {}
    count = 0
    for row in rows:
        count += 1
        for name, value in row.items():
            kinds.setdefault(name, Counter())[kind_of(value)] += 1
            if value is not None:
                examples.setdefault(name, value)
    for counts in kinds.values():
        counts["null"] += count - counts.total()
    return [Column(name, +counts, examples.get(name)) for name, counts in kinds.items()]


def kind_of(value: Any) -> str:
    """The type of a value in JSON's words, and those that Parquet has besides."""
    if value is None:
        return "null"
    return next((name for kind, name in _KINDS if isinstance(value, kind)), type(value).__name__)


def convention_of(prompt: Any) -> str:
    """How a prompt is written: "text", the roles of its conversation, or what is wrong with it."""
    if isinstance(prompt, str):
        return "text" if prompt.strip() else "empty text"
    if not is_conversation(prompt):
        return f"no prompt: {kind_of(prompt)}"
    try:
        messages = read_messages(prompt, "the conversation")
    except ValueError as error:
        return f"no prompt: {error}"
    roles = [str(message.get("role")) for message in messages]
    shown = roles if len(roles) <= 4 else [*roles[:2], f"... {len(roles) - 3} more ...", roles[-1]]
    return f"conversation: {', '.join(shown)}"


def quantiles(lengths: Sequence[int]) -> dict[str, int]:
    """Least, median, 90 %, 99 % and greatest of some lengths, each one of them."""
    ordered = sorted(lengths)
    at = {"least": 0.0, "median": 0.5, "90 %": 0.9, "99 %": 0.99, "greatest": 1.0}
    return {name: ordered[round(share * (len(ordered) - 1))] for name, share in at.items()}
