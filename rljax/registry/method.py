"""A method: one row of the table."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Method:
    """One row: options and field values, and where they come from."""

    name: str
    family: str
    paper: str
    summary: str
    parts: Mapping[str, Any]
