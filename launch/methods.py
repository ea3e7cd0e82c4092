"""Prints the method table: `python launch/methods.py [--markdown]`."""

import sys

from rich.console import Console
from rich.table import Table

from rljax.registry import method_table


def as_markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands in the README."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    lines += ["| " + " | ".join(row[name] for name in names) + " |" for row in rows]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Prints to standard output."""
    unknown = [argument for argument in arguments if argument != "--markdown"]
    if unknown:
        raise SystemExit(f"Unknown argument {unknown[0]!r}; allowed: --markdown")
    rows = method_table()
    if arguments:
        print(as_markdown(rows))
        return
    table = Table(*rows[0], show_lines=True)
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
