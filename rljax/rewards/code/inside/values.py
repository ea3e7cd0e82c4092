"""Plain values as JSON and back. Reading never runs code of the sender.

A value of any other type stays with its sender and travels as a number, its *handle*.
"""

import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_EXACT_IN_JSON = 2**53
_HANDLE = "handle"

# Types that hold values, and their tags.
_MANY: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
# Types that are written as one text.
_TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "bytearray": (bytearray, bytearray.hex, bytearray.fromhex),
    "decimal": (Decimal, str, Decimal),
    "fraction": (Fraction, str, Fraction),
    "datetime": (datetime.datetime, lambda v: v.isoformat(), datetime.datetime.fromisoformat),
    "date": (datetime.date, lambda v: v.isoformat(), datetime.date.fromisoformat),
}


def encode(value: Any, handle: Callable[[Any], int]) -> Any:
    """A value as JSON holds it.

    Args:
        value: any; of a subclass of a plain type only the plain value is kept.
        handle: object -> number, for all that is not plain.

    Raises:
        RecursionError: it is nested too deeply, or holds itself.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        value = int(value)
        return value if abs(value) < _EXACT_IN_JSON else ["int", hex(value)]
    if isinstance(value, float):
        return float(value)  # json writes all digits, and NaN and Infinity
    if isinstance(value, str):
        return str(value)
    for kind, tag in _MANY.items():
        if isinstance(value, kind):
            return [tag, [encode(one, handle) for one in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(k, handle), encode(v, handle)] for k, v in value.items()]]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    for tag, (kind, write, _) in _TEXTS.items():
        if isinstance(value, kind):
            return [tag, write(value)]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return encode(value.tolist(), handle)
    return [_HANDLE, handle(value)]


def decode(value: Any, handle: Callable[[int], Any]) -> Any:
    """The value that `encode` wrote; containers and numbers are new objects of plain types.

    Args:
        value: of JSON.
        handle: number -> object.

    Raises:
        ValueError, TypeError: for anything else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    tag, content = value
    if tag == "int":
        return int(content, 16)
    if tag == _HANDLE:
        return handle(int(content))
    if tag == "dict":
        return {decode(k, handle): decode(v, handle) for k, v in content}
    if tag == "complex":
        return complex(*content)
    if tag in _TEXTS:
        return _TEXTS[tag][2](content)
    for kind, name in _MANY.items():
        if tag == name:
            return kind(decode(one, handle) for one in content)
    raise ValueError(f"no value: {tag!r}")
