"""How a logged metric is shown."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """How one logged metric is shown."""

    label: str  # title of its chart
    meaning: str  # one sentence for the reader
    main: bool = False  # drawn in the stage's first grid; the others are folded away
    family: str = ""  # metrics of one family share a chart when a single run is drawn
    updates: bool = False  # says how the updates go; folded away together
