"""Words of the command line, "--config.a.b=value", to fields of a config."""

import ast
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from rljax.config.fields import Field, Section, checked
from rljax.config.schema import ROOT
from rljax.config.schema_stage import STAGE
from rljax.config.unknown import unknown_field
from rljax.errors import shown

PREFIX = "--config."


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Sets the fields that "--config.a.b=value" words name; `config` itself is changed.

    Raises:
        ValueError: for a word that names no field, or a value that the field does not allow.
    """
    schema = {**ROOT, **{name: STAGE for name in config if name not in ROOT}}
    for word in overrides:
        if not word.startswith(PREFIX):
            raise ValueError(
                f"Unknown argument {word!r}; overrides read {PREFIX}a.b=value ({word})."
            )
        path, equals, text = word.removeprefix(PREFIX).partition("=")
        if not equals:
            raise ValueError(f"Missing value: write {word}=value ({word}).")
        *sections, name = path.split(".")
        field, node = _found(schema, config, sections, name, word)
        where = f"config.{path}"
        value = checked(field, parsed(field, text, where), where)
        node[name] = ConfigDict(value) if field.kind is dict else value
    return config


def _found(
    schema: Section, config: ConfigDict, sections: Sequence[str], name: str, word: str
) -> tuple[Field, ConfigDict]:
    """The field of a path, and the section of the config that holds it."""
    node, where, entry = config, "config", schema
    for part in (*sections, name):
        if isinstance(entry, Field) or part not in entry:
            known = {} if isinstance(entry, Field) else entry
            raise unknown_field(part, known, where, config)
        entry, where = entry[part], f"{where}.{part}"
    for part in sections:
        node = node[part]
    if not isinstance(entry, Field):
        raise ValueError(
            f"{where} is a section; set one of its fields: {', '.join(entry)} ({word})."
        )
    return entry, node


def parsed(field: Field, text: str, where: str) -> Any:
    """The value that a text of the command line stands for, in the field's type.

    "None" is the default of fields whose default is None. Tuples are written as in Python.

    Raises:
        ValueError: for a text that is no value of that type.
    """
    if text == "None" and field.default is None:
        return None
    if field.kind is str:
        return text
    try:
        return _READERS[field.kind](text)
    # literal_eval raises all of these, the last two for what is nested too deeply.
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"--{where}={shown(text)[1:-1]}: {_EXAMPLES[field.kind]} is needed "
            f"({where}: {field.doc})."
        ) from error


_READERS = {
    int: int,
    float: float,
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
    tuple: ast.literal_eval,
    dict: ast.literal_eval,
}
_EXAMPLES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a tuple in Python's words, such as ('a', 'b') or (1, 2),",
    dict: "a mapping in Python's words, such as {'words': 2},",
}
