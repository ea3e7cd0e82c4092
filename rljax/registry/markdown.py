"""The method table as Markdown, for the README files."""

import re

from rljax.registry.families import FAMILIES
from rljax.registry.methods import METHODS
from rljax.registry.table import Kind, kinds

# Methods of a family that the first page names.
SHOWN = 12


def table(names: list[str], rows: list[list[str]]) -> str:
    """A table, without a newline at its end."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text as a cell: neither a bar nor a line's end in it ends the cell."""
    return text.replace("|", r"\|").replace("\n", r"\n")


def paper_link(text: str) -> str:
    """A paper's number as a link, whatever stands around it."""
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[\g<0>](https://arxiv.org/abs/\1)", text)


def shared(kind: Kind) -> str:
    """What most rows of a kind choose, as the end of its title."""
    common = ", ".join(f"{choice}={option}" for choice, option in kind.common.items())
    return f". If not said otherwise: {common}" if common else ""


def kind_table(kind: Kind) -> str:
    """A heading, what most rows share, and a table whose methods link to their cards."""
    rows = [
        [f"[{text}](cards/{text}.md)" if name == "method" else text for name, text in row.items()]
        for row in kind.rows
    ]
    title = f"**{kind.title}** (`{kind.file}.py`, family `{kind.family}`){shared(kind)}"
    return f"{title}\n\n{table(list(kind.rows[0]), rows)}\n"


def method_tables(family: str | None = None) -> str:
    """All rows, one table for each kind.

    Args:
        family: only the kinds of that family.
    """
    return "\n".join(kind_table(kind) for kind in kinds(family))


def family_table() -> str:
    """The families: what their stages read, and their methods, `SHOWN` of them at most."""
    rows = []
    for name, family in FAMILIES.items():
        methods = [method.name for method in METHODS.values() if method.family == name]
        more = f" and {len(methods) - SHOWN} more" if len(methods) > SHOWN else ""
        rows.append([f"`{name}`", family.data, ", ".join(methods[:SHOWN]) + more])
    return table(["family", "reads", "methods"], rows) + "\n"
