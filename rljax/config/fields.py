"""One config field: its type, its range and its meaning; and the check of a value."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.errors import shown, unknown_name

# Whole numbers become counters and sizes on the device, other numbers become float32 there.
INT32 = 2**31 - 1
FLOAT32 = 3.4028234663852886e38

# Sizes beyond these are slips: no context is as long, and no machine holds as many rows.
MOST_TOKENS = 2**24
MOST_ROWS = 2**20
MOST_PROBLEMS = 10**7
LONGEST_NAME = 255  # of a file, in the file systems in use
LONGEST_TEXT = 4000  # of a path, with room for what is written below it

# Mappings inside a value (options of a reward, parameters of a task) are kept as JSON.
DEEPEST = 20
INT64 = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Field:
    """One config field.

    Attributes:
        default: its value where the config says nothing.
        doc: meaning and unit.
        value_type: needed where the default is None; which then may be given as well.
        choices: allowed values, if few.
        minimum: smallest allowed number, if any.
        maximum: largest allowed number; without one, what 32 bits hold.
        above: numbers must be larger than this.
        below: numbers must be smaller than this.
        why: the reason of `maximum`.
        path: whether the text names a file or folder.
        items: of a tuple, what each of its items is; of a dict, what some of its entries are. A
            tuple of fields is a tuple of that length.
    """

    default: Any
    doc: str
    value_type: type | None = None
    choices: tuple = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    why: str = ""
    path: bool = False
    items: "Field | tuple[Field, ...] | Mapping[str, Field] | None" = None

    @property
    def kind(self) -> type:
        """The type of a value."""
        return self.value_type or type(self.default)


Section = Mapping[str, "Field | Section"]


def check_fields(schema: Section, section: Mapping[str, Any] | ConfigDict, where: str) -> None:
    """Raises ValueError for a value that its field does not allow.

    Args:
        schema: of the section.
        section: complete (config/load.py).
        where: its path, for errors.
    """
    for name, entry in schema.items():
        if isinstance(entry, Field):
            checked(entry, section[name], f"{where}.{name}")
        else:
            check_fields(entry, section[name], f"{where}.{name}")


def checked(field: Field, value: Any, where: str) -> Any:
    """A value in its field's type: whole numbers pass as floats, lists as tuples.

    Raises:
        ValueError: for another type, or a value that the field does not allow.
    """
    if value is None and field.default is None:
        return None
    if field.kind is tuple:
        value = _items(field, value, where)
    elif field.kind is dict:
        value = _entries(field, value, where)
    elif field.kind in (int, float):
        value = _number(field, value, where)
    elif not isinstance(value, field.kind):
        raise _error(field, value, where, f"must be {field.kind.__name__}")
    elif field.kind is str:
        _check_text(field, value, where)
    if field.choices and value not in field.choices:
        *_, section, name = where.split(".")
        kind = f"{section} {name}" if name in ("name", "kind") else name
        raise unknown_name(kind, value, field.choices, where)
    return value


def _error(field: Field, value: Any, where: str, rule: str) -> ValueError:
    return ValueError(f"{where} {rule}, got {shown(value)} ({where}: {field.doc}).")


def _number(field: Field, value: Any, where: str) -> int | float:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (field.kind is float and isinstance(value, float))):
        raise _error(field, value, where, f"must be {field.kind.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _error(field, value, where, "must be finite")
    if (field.minimum, field.maximum) == (0, 1) and not 0 <= value <= 1:
        raise _error(field, value, where, "must be in [0, 1]")
    if field.minimum is not None and value < field.minimum:
        raise _error(field, value, where, f"must be >= {field.minimum}")
    if field.above is not None and value <= field.above:
        raise _error(field, value, where, f"must be > {field.above}")
    if field.below is not None and value >= field.below:
        raise _error(field, value, where, f"must be < {field.below}")
    if field.maximum is not None and value > field.maximum:
        why = f" ({field.why})" if field.why else ""
        raise _error(field, value, where, f"must be <= {field.maximum}{why}")
    if field.kind is int and field.maximum is None and abs(value) > INT32:
        rule = f"must be <= {INT32}" if value > 0 else f"must be >= -{INT32}"
        raise _error(field, value, where, f"{rule} (32 bits on the device)")
    if field.kind is float and abs(value) > FLOAT32:
        raise _error(field, value, where, f"must be at most {FLOAT32:.2g} in size, as float32 is")
    return field.kind(value)


def _check_text(field: Field, value: str, where: str) -> None:
    """Text goes to files and to consoles."""
    if "\0" in value:
        raise _error(field, value, where, "must be text without NUL characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _error(field, value, where, "must be text without half characters (lone surrogates)")
    if field.path and max(len(part.encode()) for part in value.split("/")) > LONGEST_NAME:
        raise _error(field, value, where, f"must have names of at most {LONGEST_NAME} bytes")
    if len(value) > LONGEST_TEXT:
        raise _error(field, value, where, f"must have at most {LONGEST_TEXT} characters")


def _items(field: Field, value: Any, where: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise _error(field, value, where, "must be tuple")
    items = field.items
    if items is None:
        return tuple(value)
    each = items if isinstance(items, tuple) else (items,) * len(value)
    if len(each) != len(value):
        raise _error(field, value, where, f"must be {len(each)} values")
    return tuple(
        checked(item, entry, f"{where}[{index}]")
        for index, (item, entry) in enumerate(zip(each, value, strict=True))
    )


def _entries(field: Field, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping | ConfigDict):
        raise _error(field, value, where, "must be a mapping")
    found = as_json(value, where)
    for name, entry in (field.items or {}).items():
        if found.get(name) is not None:
            found[name] = checked(entry, found[name], f"{where}[{name!r}]")
    return found


def as_json(value: Any, where: str, depth: int = 0) -> Any:
    """A value with plain mappings, so that it can be saved and read again.

    Raises:
        ValueError: for what JSON does not know: other types, numbers that are not finite, keys that
            are no text; and for more than `DEEPEST` levels.
    """
    if depth > DEEPEST:
        raise ValueError(f"{where} has more than {DEEPEST} levels ({where}).")
    if isinstance(value, Mapping | ConfigDict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {shown(key)}; keys are texts ({where}).")
        return {key: as_json(value[key], f"{where}[{key!r}]", depth + 1) for key in value}
    if isinstance(value, list | tuple):
        made = (as_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value))
        return type(value)(made) if type(value) in (list, tuple) else tuple(made)
    if isinstance(value, str):
        _check_text(Field("", "text"), value, where)
        return value
    number = isinstance(value, int) and abs(value) <= INT64  # bool is one, too
    if value is None or number or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(
        f"{where} must be text, a finite number, True, False, None, or a list or mapping of these, "
        f"got {shown(value)} ({where})."
    )
