"""A sweep on disk: what its cells are, and how each has ended.

DIR/sweep.json        the config, the metric and all cells, also those of earlier sweep files
DIR/ends.json         name -> how a cell has ended
DIR/cells/NAME/       the workdir of a cell
DIR/logs/NAME.log     what its process has said
DIR/found/            of cells that were one program: what each condition has found
DIR/lineage.json      of a population: who has copied whom
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rljax.comparison.sweeps.cells import Cell
from rljax.comparison.sweeps.population import Rule
from rljax.reporting.files import (
    SUMMARY_FILE,
    SWEEP_FILE,
    as_written,
    read_json,
    write_json_atomic,
)

ENDS_FILE = "ends.json"
CELLS, LOGS, FOUND = "cells", "logs", "found"
DONE, FAILED, STOPPED, RUNNING, WAITING = "done", "failed", "stopped", "begun", "not begun"
ACCURACY = "heldout/accuracy_greedy"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is.

    Attributes:
        config: FILE[:ARG].
        overrides: words that all cells have in common.
        stage: the last one, whose metrics count.
        metric: KIND/NAME of it, by which cells are ranked; more is better.
        cells: all of them, in order.
        vmapped: whether they are one program.
        population: how they copy each other on the way; None: each stays by itself.
    """

    config: str
    overrides: tuple[str, ...]
    stage: str
    metric: str
    cells: tuple[Cell, ...]
    vmapped: bool = False
    population: Rule | None = None


class End(NamedTuple):
    """How a cell has ended; `why` is one line."""

    state: str
    why: str = ""


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder, if there is one.

    Raises:
        ValueError: for a damaged file.
    """
    stored = read_json(folder / SWEEP_FILE)
    if not stored:
        return None
    try:
        cells = tuple(
            Cell(**{**cell, "words": tuple(cell["words"])}) for cell in stored.pop("cells")
        )
        rule = stored.pop("population", None)
        if rule is not None:
            rule = Rule(**{**rule, "fields": tuple(rule["fields"])})
        overrides = tuple(stored.pop("overrides"))
        return Plan(**stored, overrides=overrides, cells=cells, population=rule)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / SWEEP_FILE} is not complete: {error}.") from error


def write_plan(folder: Path, plan: Plan) -> None:
    """Writes sweep.json."""
    write_json_atomic(folder / SWEEP_FILE, dataclasses.asdict(plan))


def merged(folder: Path, plan: Plan) -> Plan:
    """A plan with the cells that its folder has already.

    Raises:
        ValueError: if the folder is that of another config, or a cell has become another run.
    """
    stored = read_plan(folder)
    if stored is None:
        return plan
    for name, flag in (
        ("config", "--config"),
        ("overrides", "--config.*"),
        ("vmapped", "--vmapped"),
        ("population", "--rule"),
        *([("metric", "--metric")] if stored.population else []),  # it has decided by that one
    ):
        before, now = getattr(stored, name), getattr(plan, name)
        if before != now:
            raise ValueError(
                f"{folder} holds a sweep with {name}={before!r}, not {now!r}: give another "
                f"--workdir ({flag})."
            )
    known = {cell.name: cell for cell in stored.cells}
    for cell in plan.cells:
        before = known.get(cell.name)
        if before is not None and before.hash != cell.hash:
            raise ValueError(
                f"The cell {cell.name!r} of {folder} was another run: its config has the hash "
                f"{cell.hash} now, and had {before.hash}. Give another --workdir (--workdir)."
            )
    named = {cell.name for cell in plan.cells}
    if plan.population is not None and named != known.keys():
        raise ValueError(
            f"{folder} holds a population of {len(known)} cells, others than these, and none can "
            "begin later: give another --workdir (--sweep, --seeds, --rule)."
        )
    left = tuple(cell for cell in stored.cells if cell.name not in named)
    same = {cell.hash: cell.name for cell in left}
    for cell in plan.cells:
        if cell.hash in same:
            raise ValueError(
                f"The cell {cell.name!r} is the same run as {same[cell.hash]!r}, which {folder} "
                "holds already (--sweep)."
            )
    return dataclasses.replace(plan, cells=(*left, *plan.cells))


def workdir_of(folder: Path, cell: Cell) -> Path:
    """The workdir of a cell."""
    return folder / CELLS / cell.name


def read_ends(folder: Path) -> dict[str, End]:
    """How cells have ended, as far as it was written."""
    return {name: End(**end) for name, end in read_json(folder / ENDS_FILE).items()}


def write_end(folder: Path, cell: Cell, end: End | None) -> None:
    """Writes how a cell has ended; None takes back what was written."""
    ends: dict[str, Any] = {name: known._asdict() for name, known in read_ends(folder).items()}
    ends.pop(cell.name, None)
    if end is not None:
        ends[cell.name] = end._asdict()
    write_json_atomic(folder / ENDS_FILE, as_written(ends))


def end_of(folder: Path, cell: Cell, ends: dict[str, End]) -> End:
    """How a cell has ended, or that it has not."""
    workdir = workdir_of(folder, cell)
    if (workdir / SUMMARY_FILE).exists():
        return End(DONE)
    return ends.get(cell.name, End(RUNNING if workdir.exists() else WAITING))


def states(folder: Path, cells: Sequence[Cell]) -> dict[str, End]:
    """Name -> how the cell has ended."""
    ends = read_ends(folder)
    return {cell.name: end_of(folder, cell, ends) for cell in cells}
