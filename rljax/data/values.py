"""Labels, scores and answers of rows: read, or refused with the place where they stand."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rljax.errors import typed

# What becomes of rows that say nothing to learn: an error, or they are left out and counted.
UNUSABLE = ("refuse", "drop")


class UnusableRow(ValueError):
    """A row of the right columns that says nothing to learn: an empty answer, two equal sides."""


def label_of(value: Any, what: str) -> bool:
    """A label.

    Args:
        value: of the row.
        what: file, row and column, for the error.

    Raises:
        ValueError: for anything but true and false; 0, 1 and texts may mean something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be true or false, got {typed(value)}.")
    return value


def number_of(value: Any, what: str) -> float:
    """A score or a margin.

    Args:
        value: of the row.
        what: file, row and column, for the error.

    Raises:
        ValueError: for null, true or false, a text, NaN or infinity.
    """
    fits = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not fits or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {typed(value)}.")
    return float(value)


def token_ids(value: Any, what: str) -> list[int]:
    """A text that a row gives as ids.

    Args:
        value: of the row.
        what: file, row and column, for the error.

    Raises:
        ValueError: for anything but a list of whole numbers of at least 0.
    """
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list of token ids, got {typed(value)}.")
    wrong = [one for one in value if type(one) is not int or one < 0]
    if wrong:
        raise ValueError(f"{what} must hold token ids, whole numbers >= 0, got {typed(wrong[0])}.")
    return list(value)


def said(answer: Any, what: str) -> Any:
    """An answer, a text or a message, that says something.

    Args:
        answer: of the row.
        what: file, row and column, for the error.

    Raises:
        UnusableRow: for an empty text, or one of blanks; calls of tools are an answer.
    """
    content = answer.get("content") if isinstance(answer, Mapping) else answer
    called = isinstance(answer, Mapping) and answer.get("tool_calls")
    if not called and isinstance(content, str) and not content.strip():
        raise UnusableRow(f"{what} is empty, got {typed(content)}; an answer has a text.")
    return answer
