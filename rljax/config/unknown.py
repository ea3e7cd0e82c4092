"""The error for a field that does not exist: what is there instead, and what was probably meant."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.data import KIND_FIELDS, read_by_kind
from rljax.config.fields import Field, Section
from rljax.config.other_names import hint
from rljax.config.resolve import what_is_read
from rljax.config.schema import ROOT
from rljax.config.schema_stage import STAGE
from rljax.errors import unknown_name
from rljax.registry import FAMILIES, METHODS, objective_fields, read_fields, resolve_objective


def unknown_field(
    name: object,
    schema: Section,
    where: str,
    config: Mapping[str, Any] | ConfigDict,
    kind: str = "field",
) -> ValueError:
    """Builds (does not raise) the error for a name that is not in a section.

    Only fields that the config can use are listed: those that the stage's method reads, or that the
    kind of problems has.

    Args:
        name: what the config calls the field.
        schema: of the section.
        where: path of the section.
        config: the whole config, as far as it is known.
        kind: what the name stands for.
    """
    read = _read(where.split(".")[1:], config)
    known = [field for field in schema if read is None or field in read]
    return unknown_name(
        kind,
        name,
        known,
        f"{where}.{name}",
        more=set(schema) - {name},
        hint=_elsewhere(str(name), where) or hint(str(name), where),
    )


def check_family(stage: str, config: ConfigDict) -> None:
    """Raises ValueError for a field of the objective that only other families have.

    Args:
        stage: its name.
        config: complete.
    """
    method, objective = config[stage].method, config[stage].objective
    if method not in METHODS:
        return  # config/resolve.py says so
    family, where = METHODS[method].family, f"config.{stage}.objective"
    fields = objective_fields(family)
    for name, value in objective.items():
        if value is not None and name not in fields:
            raise unknown_field(
                name, STAGE["objective"], where, config, f"field of the {family} family"
            )


def _elsewhere(name: str, where: str) -> str:
    """Where a field of this name does stand, as a sentence; "" if nowhere near."""
    stage = where.split(".")[1] if where.count(".") else ""
    near = {f"config.{stage}": STAGE} if stage and stage not in ROOT else {"config": ROOT}
    found = [path for path in _paths(near) if path.rpartition(".")[2] == name]
    others = [path for path in found if path.rpartition(".")[0] != where]
    return f"There is {' and '.join(others[:3])}." if others else ""


def _paths(schema: Section, before: str = "") -> Iterator[str]:
    """The paths of all fields."""
    for name, entry in schema.items():
        if isinstance(entry, Field):
            yield before + name
        else:
            yield from _paths(entry, f"{before}{name}.")


def _read(path: list[str], config: Mapping[str, Any] | ConfigDict) -> Collection[str] | None:
    """The fields of a section that this config can use; None: all of them."""
    section = _mapping(config.get(path[0])) if path else {}
    if path == ["data"]:
        kind = section.get("kind") or ROOT["data"]["kind"].default
        return read_by_kind(kind) if kind in tuple(KIND_FIELDS) else None
    if len(path) != 2 or path[0] in ROOT or section.get("method") not in tuple(METHODS):
        return None
    row = METHODS[section["method"]]
    choices = FAMILIES[row.family].choices
    given = _mapping(section.get("objective"))
    try:
        objective = resolve_objective(row.name, {c: given.get(c) for c in choices})
    except (ValueError, TypeError):  # no option at all: nothing can be said of what it reads
        return None
    if path[1] == "objective":
        return {*choices, *read_fields(row.family, objective.choices)}
    source = _mapping(section.get("data")).get("source")
    known = tuple(FAMILIES[row.family].sources)
    return getattr(what_is_read(objective, source if source in known else None), path[1], None)


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, ConfigDict):
        return value.to_dict()
    return value if isinstance(value, Mapping) else {}
