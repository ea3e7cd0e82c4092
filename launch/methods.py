"""Prints the method table, or all of one method.

python launch/methods.py                          all methods, one table for each kind
python launch/methods.py --family=policy_gradient
python launch/methods.py --method=grpo            its choices and fields: values and meaning
python launch/methods.py --method=grpo --card     its card: equations, fields, tests, result
python launch/methods.py --markdown               as in rljax/registry/README.md
"""

import argparse
import functools
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rljax.commands.parser import Parser
from rljax.commands.run import run
from rljax.errors import unknown_name
from rljax.registry import FAMILIES, METHODS, resolve_objective
from rljax.registry.cards import card, read_sources
from rljax.registry.markdown import method_tables, shared
from rljax.registry.table import Kind, config_file, kinds, method_lines, needs

WIDTH = 130
ROOT = Path(__file__).parents[1]


def as_table(kind: Kind) -> Table:
    """The same for a terminal."""
    title = f"{kind.title} ({kind.file}.py, family {kind.family}){shared(kind)}"
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in kind.rows[0]:
        table.add_column(name, overflow="fold", no_wrap=name == "method")
    for row in kind.rows:
        table.add_row(
            *(text.replace(", ", "\n") if name == "parts" else text for name, text in row.items())
        )
    return table


def print_method(console: Console, name: str) -> None:
    """One method: what it does, what it needs, every choice and field with value and meaning."""
    objective = resolve_objective(name, {})
    method, family = objective.method, FAMILIES[objective.family]
    file = next(kind.file for kind in kinds() if name in [row["method"] for row in kind.rows])
    say = functools.partial(console.print, markup=False, highlight=False)
    say(f"{name}: {method.summary}")
    say(f"family  {objective.family}: reads {family.data}")
    say(f"needs   {', '.join(needs(objective)) or 'nothing else'}")
    say(f"paper   {method.paper}")
    say(f"row     rljax/registry/methods/{file}.py")
    if config := config_file(file, lambda path: (ROOT / path).is_file()):
        say(f"config  --config={config}:{name}")
    say("change  --config.STAGE.objective.NAME=VALUE (STAGE: rl in the configs of configs/rlvr)\n")
    table = Table("name", "value", "meaning", caption="*: set by the method's row", box=None)
    for line in method_lines(name):
        value = f"{line.value} *" if line.own else line.value
        options = family.choices.get(line.name, ())
        doc = line.doc + (f" [{', '.join(options)}]" if options else "")
        table.add_row(line.name, value, doc.replace("[", r"\["))
    console.print(table)


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--family", metavar="NAME", help="only the methods of a family")
    add("--method", metavar="NAME", help="all of one method: its parts and fields")
    add("--card", action="store_true", help="with --method: its card, as Markdown")
    add("--markdown", action="store_true", help="the tables as rljax/registry/README.md has them")
    return made


def show(options: argparse.Namespace) -> None:
    """Prints to standard output."""
    family, method = options.family, options.method
    for what, name, known in (("family", family, FAMILIES), ("method", method, METHODS)):
        if name is not None and name not in known:
            raise unknown_name(what, name, known, f"--{what}")
    if method is not None and (options.markdown or family is not None):
        raise ValueError("--method prints one method: leave --family and --markdown out (--method)")
    if options.card and method is None:
        raise ValueError("--card prints the card of one method: name it with --method (--card)")
    if options.card:
        print(card(method, read_sources(ROOT)), end="")
        return
    if options.markdown:
        print(method_tables(family), end="")
        return
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=WIDTH)
    if method is not None:
        print_method(console, method)
        return
    for kind in kinds(family):
        console.print(as_table(kind))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), show, arguments)


if __name__ == "__main__":
    sys.exit(main())
