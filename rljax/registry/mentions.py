"""Which tests mention a part: by its function, or by its name as an option.

Files are read as syntax trees; nothing of them is imported or run.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class Mentions(NamedTuple):
    """What a piece of source names."""

    functions: frozenset[str]  # full names of what is imported from rljax
    strings: frozenset[str]  # its string constants
    words: frozenset[str]  # words of its identifiers


def of_source(source: str, start: str | None = None) -> Mentions:
    """What a file names.

    Args:
        source: of a Python file.
        start: only what this function of the file reaches through names of the same file.

    Raises:
        ValueError: if the file has no such function.
    """
    tree = ast.parse(source)
    imported = _imported(tree)
    if start is None:
        nodes: Iterable[ast.AST] = ast.walk(tree)
    else:
        nodes = _reached(tree, start)
    functions, strings, words = set(), set(), set()
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
        elif isinstance(node, ast.Name):
            # A table is named after its choice: SELECTIONS holds the options of `selection`.
            words |= {node.id, node.id.lower().removesuffix("s"), *node.id.lower().split("_")}
            functions |= {imported[node.id]} if node.id in imported else set()
        elif isinstance(node, ast.keyword) and node.arg:
            words |= {node.arg, *node.arg.split("_")}
        elif isinstance(node, ast.Attribute):
            words |= {node.attr}
            if isinstance(node.value, ast.Name) and node.value.id in imported:
                functions.add(f"{imported[node.value.id]}.{node.attr}")
    return Mentions(frozenset(functions), frozenset(strings), frozenset(words))


def _imported(tree: ast.Module) -> dict[str, str]:
    """Local name -> full name, of everything that comes from rljax."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rljax")
        for alias in node.names
    }


def _reached(tree: ast.Module, start: str) -> list[ast.AST]:
    """All nodes of a function, and of what it reaches at the top of the same file."""
    tops: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            tops[node.name] = node
        elif isinstance(node, ast.Assign):
            tops |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
    if start not in tops:
        raise ValueError(f"no {start!r} at the top of the file; there: {', '.join(tops)}.")
    open_names, done, nodes = [start], set(), []
    while open_names:
        name = open_names.pop()
        done.add(name)
        inside = list(ast.walk(tops[name]))
        nodes += inside
        named = {node.id for node in inside if isinstance(node, ast.Name)}
        open_names += [other for other in named & set(tops) - done if other not in open_names]
    return nodes


def mention(found: Mentions, method: str, choice: str, option: str, part: Callable) -> bool:
    """Whether a source names a part.

    It does so by the part's function; by its option, where the choice or its table is named too;
    or by taking the choice of this very method: `resolve_objective("dpo", {}).part("link")`.

    Args:
        found: what the source names.
        method: that has made the choice.
        choice: such as "advantage".
        option: the part's name in the table of its choice.
        part: its function; a package above its module may hand it on.
    """
    above = part.__module__.split(".")
    names = {".".join([*above[:n], part.__name__]) for n in range(1, len(above) + 1)}
    if names & found.functions:
        return True
    if option in found.strings and choice in found.words | found.strings:
        return True
    resolved = any(name.endswith(".resolve_objective") for name in found.functions)
    return resolved and {method, choice} <= found.strings


def golden_adapters(sources: Mapping[str, str]) -> dict[str, Mentions]:
    """What the adapter of each golden file names.

    Args:
        sources: path -> text; the folder `golden_adapters/` among them, whose `__init__.py` maps
            slugs to functions: `"bnpo": bnpo.bnpo`.
    """
    folder = {
        path.rpartition("/")[2].removesuffix(".py"): text
        for path, text in sources.items()
        if "/golden_adapters/" in path
    }
    entries = re.findall(r'^    "([\w-]+)": (\w+)\.(\w+),$', folder["__init__"], re.MULTILINE)
    return {slug: of_source(folder[file], function) for slug, file, function in entries}
