"""References that are mappings, or the same as JSON text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def reference_fields(reference: Any, names: Sequence[str], reward: str) -> list[Any]:
    """The named fields of a reference.

    Raises:
        ValueError: if it is no mapping, nor the JSON text of one, or lacks a field.
    """
    given = reference
    if isinstance(reference, str):
        try:
            reference = json.loads(reference)
        except ValueError:
            reference = None
    if not isinstance(reference, Mapping) or not set(names) <= set(reference):
        listed = " and ".join(map(repr, names))
        raise ValueError(
            f"The reward {reward!r} needs a reference with {listed}, got {given!r} "
            "(config.data.reference_column)."
        )
    return [reference[name] for name in names]
