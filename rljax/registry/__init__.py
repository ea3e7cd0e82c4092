"""The method table: a method is a row of parts, not a class.

To add one: write the part that is new (a function in a table of `rljax/objectives/`, its
keyword-only arguments are its config fields) and add a row to a file in `methods/`.
`python launch/methods.py` prints the table; a config picks a row with `config.<stage>.method` and
may change any part or field of it with `config.<stage>.objective`. What the methods of a family
have in common, and how to add a family: `families/`.

| file | what it holds |
| --- | --- |
| `method.py` | what a row is |
| `families/` | the families: one record each |
| `methods/` | the rows |
| `objective.py` | a row with a config's changes, resolved and checked |
| `table.py`, `markdown.py` | the table as text, and as Markdown |
| `cards.py` | a card for each method, which `python launch/docs.py` writes to `cards/` |
| `docstrings.py`, `mentions.py` | what cards take from docstrings, and from tests |
"""

from rljax.registry.families import FAMILIES, Family, Reads, Together
from rljax.registry.method import Method
from rljax.registry.methods import METHODS
from rljax.registry.objective import (
    Objective,
    field_doc,
    objective_fields,
    read_fields,
    resolve_objective,
)
from rljax.registry.table import method_table

__all__ = [
    "FAMILIES",
    "METHODS",
    "Family",
    "Method",
    "Objective",
    "Reads",
    "Together",
    "field_doc",
    "method_table",
    "objective_fields",
    "read_fields",
    "resolve_objective",
]
