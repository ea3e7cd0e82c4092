"""What one field alone may be: its allowed values, its smallest number, finite."""

import math

from ml_collections import ConfigDict

from rljax.config.schema import Field, Section
from rljax.errors import unknown_name


def check_ranges(schema: Section, section: ConfigDict, where: str) -> None:
    """Raises ValueError for a value outside the limits of its field.

    Args:
        schema: of the section.
        section: complete (config/load.py).
        where: its path, for errors.
    """
    for name, entry in schema.items():
        value, path = section[name], f"{where}.{name}"
        if not isinstance(entry, Field):
            check_ranges(entry, value, path)
            continue
        if value is None:
            continue
        if entry.choices and value not in entry.choices:
            raise unknown_name(name, value, entry.choices, path)
        if entry.minimum is not None and not value >= entry.minimum:
            raise ValueError(
                f"{path} must be >= {entry.minimum}, got {value} ({path}: {entry.doc})."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path} must be finite, got {value} ({path}: {entry.doc}).")
