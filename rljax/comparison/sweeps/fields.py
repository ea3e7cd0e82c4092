"""The swept fields of a sweep: short names, and where their values lie on an axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rljax.comparison.sweeps.cells import text_of
from rljax.comparison.sweeps.scores import Condition
from rljax.comparison.table import DASH
from rljax.reporting import svg

FEW = 7  # values that are all written at an axis
LOG_RANGE = 8.0  # largest / smallest value from which an axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Scale:
    """An axis of one field: value -> 0 .. 1.

    Attributes:
        places: the text of each value -> its place.
        marks: (place, label) of what is written at the axis.
        continuous: whether places say how far values are apart.
    """

    places: dict[str, float]
    marks: tuple[tuple[float, str], ...]
    continuous: bool

    def place(self, value: Any) -> float:
        """Where a value lies."""
        return self.places[text_of(value)]


def swept(conditions: Sequence[Condition]) -> list[str]:
    """The fields that differ between conditions, in the order in which they occur."""
    names = dict.fromkeys(name for each in conditions for name in each.values)
    return [
        name for name in names if len({text_of(each.values.get(name)) for each in conditions}) > 1
    ]


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Field -> its last word, or as many as tell it from the others."""
    found = {}
    for field in fields:
        parts = field.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if sum(f"{other}".endswith(f".{end}") or other == end for other in fields) == 1:
                break
        found[field] = end
    return found


def short_cells(names: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """Name of a condition -> the same with short names of fields, and spaces where lines break."""
    short = short_names(fields)
    longest_first = sorted(fields, key=len, reverse=True)
    found = {}
    for name in names:
        found[name] = name
        for field in longest_first:
            found[name] = found[name].replace(f"{field}=", f"{short[field]}=")
        found[name] = found[name].replace(",", ", ")
    return found


def shown_value(value: Any) -> str:
    """The value of a field, or a dash where a cell does not have it."""
    return DASH if value is None else text_of(value)


def scale_of(values: Sequence[Any]) -> Scale:
    """The axis of a field; numbers far apart get a logarithmic one, texts equal distances."""
    texts = {text_of(value): value for value in values}
    if not all(_is_number(value) for value in texts.values()):
        ordered = sorted(texts)
        places = {text: _even(index, len(ordered)) for index, text in enumerate(ordered)}
        marks = tuple((places[text], shown_value(texts[text])) for text in ordered)
        return Scale(places, marks, continuous=False)
    low, high = min(texts.values()), max(texts.values())
    logarithmic = low > 0 and high / low >= LOG_RANGE

    def place(value: float) -> float:
        if low == high:
            return 0.5
        if logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    places = {text: place(value) for text, value in texts.items()}
    if len(texts) <= FEW:
        ordered = sorted(texts.values())
        marks = [(place(value), _label(value)) for value in ordered]
    elif logarithmic:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        marks = [(place(low), _label(low)), *((place(10.0**p), f"1e{p}") for p in powers)]
        marks.append((place(high), _label(high)))
    else:
        ticks = svg.ticks(low, high, 4)
        pitch = ticks[1] - ticks[0] if len(ticks) > 1 else max(abs(high), 1e-12)
        marks = [(place(tick), svg.tick_label(tick, pitch)) for tick in ticks]
    return Scale(places, tuple(_apart(marks)), continuous=True)


def _label(value: float) -> str:
    """A number as it is written at an axis: 8.96e-05 also where a product is a little more."""
    return f"{value:.6g}"


def _apart(marks: Sequence[tuple[float, str]], least: float = 0.06) -> list[tuple[float, str]]:
    """Without those that would be written over others."""
    kept: list[tuple[float, str]] = []
    for place, label in marks:
        if not kept or place - kept[-1][0] >= least:
            kept.append((place, label))
    return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _even(index: int, count: int) -> float:
    return 0.5 if count == 1 else index / (count - 1)
