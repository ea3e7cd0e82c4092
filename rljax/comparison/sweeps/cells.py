"""A sweep file expanded to cells: names that stay, words of the command line, config hashes."""

import dataclasses
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rljax.comparison.runs import file_stem
from rljax.config.identity import config_hash
from rljax.config.load import load_config
from rljax.config.overrides import PREFIX
from rljax.config.validate import plain, resolved_dict, validate
from rljax.errors import shown
from rljax.user_modules import errors_located, import_file

SEED = "seed"
BASE = "base"  # the name of a cell without overrides
LONGEST_NAME = 120  # letters; a folder and a job are called so
NAME = re.compile(r"[A-Za-z0-9=._+,-]+")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: of its folder; depends on its own overrides alone.
        condition: its name without the seed; cells of one condition are aggregated.
        seed: of the run.
        values: every field that the sweep file sets anywhere -> its value here; not the seed.
        words: the same as words of the command line, with the seed.
        hash: of the resolved config.
    """

    name: str
    condition: str
    seed: int
    values: Mapping[str, Any]
    words: tuple[str, ...]
    hash: str


def read_sweep(path: str) -> list[tuple[str | None, dict[str, Any]]]:
    """What a sweep file yields: (name or None, field -> value) for each cell.

    Raises:
        ValueError: for a file without sweep(), an error in it, something else than mappings, or
            nothing at all.
    """
    if not Path(path).is_file():
        raise ValueError(f"No sweep file {path!r} (--sweep).")
    module = import_file(path, field="--sweep", again=True)
    if not hasattr(module, "sweep"):
        raise ValueError(f"{path} has no function sweep() (--sweep).")
    with errors_located(path, field="--sweep"):
        yielded = list(module.sweep() or ())
    if not yielded:
        raise ValueError(f"sweep() of {path} yields no cell (--sweep).")
    return [_named(item, path) for item in yielded]


def expand(
    config: str, overrides: Sequence[str], sweep: str, seeds: int | None = None
) -> tuple[Cell, ...]:
    """All cells of a sweep, each with its config checked.

    Args:
        config: FILE[:ARG].
        overrides: words that all cells have in common.
        sweep: the sweep file.
        seeds: gives every cell the seeds 0 .. seeds - 1; None: the sweep file says what it wants.

    Raises:
        ValueError: for an unknown field, a value that is not allowed, two cells with one name or
            one config, or no cell.
    """
    cells = []
    for given, values in read_sweep(sweep):
        if seeds is not None and SEED in values:
            raise ValueError(
                f"sweep() of {sweep} sets the seed itself: leave out --seeds (--seeds)."
            )
        for seed in (None,) if seeds is None else range(seeds):
            whole = values if seed is None else {**values, SEED: seed}
            cells.append(_cell(config, overrides, given, whole, sweep))
    _check_differ([cell for cell, _ in cells], sweep)
    swept = dict.fromkeys(name for cell, _ in cells for name in cell.values)
    return tuple(
        dataclasses.replace(cell, values={name: _value(loaded, name) for name in swept})
        for cell, loaded in cells
    )


def text_of(value: Any) -> str:
    """A value as --config.a.b=VALUE spells it.

    Raises:
        ValueError: for something that no field holds.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, str | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return repr(tuple(value))
    raise ValueError(f"{shown(value)} is no value of a field: a number, text or tuple is needed.")


def label_of(values: Mapping[str, Any]) -> str:
    """What a cell is called after: its overrides in the order of their names."""
    return " ".join(f"{name}={text_of(values[name])}" for name in sorted(values)) or BASE


def name_of(label: str) -> str:
    """The folder of a label: readable, one per label, not too long."""
    stem = file_stem(label)
    if len(stem) <= LONGEST_NAME:
        return stem
    return f"{stem[: LONGEST_NAME - 9]},{zlib.crc32(label.encode()):08x}"


def _named(item: Any, path: str) -> tuple[str | None, dict[str, Any]]:
    """A cell as it was yielded: a mapping, or a name with a mapping."""
    name, values = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise ValueError(
            f"sweep() of {path} yields {shown(item)}: a mapping 'a.b' -> value is needed, or a "
            "name with one (--sweep)."
        )
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValueError(
            f"sweep() of {path}: {shown(name)} is no name of a cell: letters, digits and = . _ + "
            ", - are (--sweep)."
        )
    return name, dict(values)


def _cell(
    config: str, overrides: Sequence[str], given: str | None, values: Mapping[str, Any], sweep: str
) -> tuple[Cell, ConfigDict]:
    """One cell, and its config."""
    others = {name: value for name, value in values.items() if name != SEED}
    shown_as = given or label_of(others)
    try:
        words = tuple(f"{PREFIX}{name}={text_of(value)}" for name, value in values.items())
        loaded = load_config(config, [*overrides, *words])
        digest = config_hash(resolved_dict(loaded, validate(loaded)))
    except ValueError as error:
        raise ValueError(f"{sweep}, cell {shown_as}: {error}") from error
    label = shown_as if SEED not in values else f"{shown_as} {SEED}={text_of(values[SEED])}"
    if label == f"{BASE} {SEED}={loaded.seed}":
        label = f"{SEED}={loaded.seed}"
    cell = Cell(name_of(label), name_of(shown_as), loaded.seed, others, words, digest)
    return cell, loaded


def _value(config: ConfigDict, path: str) -> Any:
    """What a config says of a field that some cell sets, as JSON has it."""
    for part in path.split("."):
        if part not in config:  # of a stage that this cell does not have
            return None
        config = config[part]
    return plain(config)


def _check_differ(cells: Iterable[Cell], sweep: str) -> None:
    """Raises ValueError for two cells with one name, or with one config."""
    names: set[str] = set()
    hashes: dict[str, str] = {}
    for cell in cells:
        if cell.name in names:
            raise ValueError(f"Two cells of {sweep} are called {cell.name!r} (--sweep).")
        if cell.hash in hashes:
            raise ValueError(
                f"The cells {hashes[cell.hash]!r} and {cell.name!r} of {sweep} are the same run: "
                f"their configs do not differ (--sweep)."
            )
        names.add(cell.name)
        hashes[cell.hash] = cell.name
