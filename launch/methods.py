"""Prints the method table: `python launch/methods.py [--markdown]`."""

import sys

from rich.console import Console
from rich.table import Table

from rljax.registry import method_table

WIDTH = 130


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
    table = Table(show_lines=True)
    for name in rows[0]:
        table.add_column(name, overflow="fold", no_wrap=name == "method")
    for row in rows:
        table.add_row(
            *(text.replace(", ", "\n") if name == "parts" else text for name, text in row.items())
        )
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=WIDTH)
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
