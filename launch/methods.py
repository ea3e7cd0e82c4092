"""Prints the method table, or all of one method.

python launch/methods.py                          all methods, one table for each kind
python launch/methods.py --family=policy_gradient
python launch/methods.py --method=grpo            its choices and fields: values and meaning
python launch/methods.py --markdown               as in the README
"""

import functools
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rljax.errors import unknown_name
from rljax.registry import FAMILIES, METHODS, resolve_objective
from rljax.registry.table import Kind, kinds, method_lines, needs

WIDTH = 130
CONFIGS = Path(__file__).parents[1] / "configs/rlvr"
KNOWN = "--family=NAME, --method=NAME, --markdown"


def as_markdown(kind: Kind) -> str:
    """A heading, what most rows share, and a table."""
    names = list(kind.rows[0])
    lines = [f"**{kind.title}** (`{kind.file}.py`, family `{kind.family}`){_shared(kind)}", ""]
    lines += ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    for row in kind.rows:  # a bar in a text is none of the table
        lines.append("| " + " | ".join(text.replace("|", r"\|") for text in row.values()) + " |")
    return "\n".join(lines) + "\n"


def _shared(kind: Kind) -> str:
    common = ", ".join(f"{choice}={option}" for choice, option in kind.common.items())
    return f". If not said otherwise: {common}" if common else ""


def as_table(kind: Kind) -> Table:
    """The same for a terminal."""
    title = f"{kind.title} ({kind.file}.py, family {kind.family}){_shared(kind)}"
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
    if (CONFIGS / f"{file}.py").is_file():
        say(f"config  --config=configs/rlvr/{file}.py:{name}")
    say("change  --config.STAGE.objective.NAME=VALUE (STAGE: rl in the configs of configs/rlvr)\n")
    table = Table("name", "value", "meaning", caption="*: set by the method's row", box=None)
    for line in method_lines(name):
        value = f"{line.value} *" if line.own else line.value
        options = family.choices.get(line.name, ())
        doc = line.doc + (f" [{', '.join(options)}]" if options else "")
        table.add_row(line.name, value, doc.replace("[", r"\["))
    console.print(table)


def main(arguments: list[str]) -> None:
    """Prints to standard output."""
    given = dict(word.partition("=")[::2] for word in arguments)
    for word, (name, value) in zip(arguments, given.items(), strict=False):
        allowed = ("--markdown",) if "=" not in word else ("--family", "--method")
        if name not in allowed or ("=" in word and not value):
            raise SystemExit(f"Unknown argument {word!r}; allowed: {KNOWN}")
    family, method = given.get("--family"), given.get("--method")
    for what, name, known in (("family", family, FAMILIES), ("method", method, METHODS)):
        if name is not None and name not in known:
            raise SystemExit(str(unknown_name(what, name, known, f"--{what}")))
    if method is not None and len(given) > 1:
        raise SystemExit("--method prints one method: leave the other arguments out")
    if "--markdown" in given:
        print("\n".join(as_markdown(kind) for kind in kinds(family)), end="")
        return
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=WIDTH)
    if method is not None:
        print_method(console, method)
        return
    for kind in kinds(family):
        console.print(as_table(kind))


if __name__ == "__main__":
    main(sys.argv[1:])
