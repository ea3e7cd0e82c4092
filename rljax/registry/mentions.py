"""Which tests mention a part: by its function, or by its name as an option.

Files are read as syntax trees; nothing of them is imported or run.
"""

import ast
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class Mentions(NamedTuple):
    """What a piece of source names."""

    functions: frozenset[str]  # full names of what is imported from rljax
    strings: frozenset[str]  # its string constants
    words: frozenset[str]  # words of its identifiers


class _File(NamedTuple):
    """A file that was read."""

    tree: ast.Module
    imported: dict[str, str]  # local name -> full name, of what comes from some other module
    tops: dict[str, ast.stmt]  # functions and values at its top, by name


@functools.cache
def _read(source: str) -> _File:
    """Reads a file once: adapters share their helpers."""
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    tops: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            tops[node.name] = node
        elif isinstance(node, ast.Assign):
            tops |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return _File(tree, imported, tops)


def of_source(source: str) -> Mentions:
    """What a file names.

    Args:
        source: of a Python file.
    """
    file = _read(source)
    return _of_nodes(ast.walk(file.tree), file.imported)


def _of_nodes(nodes: Iterable[ast.AST], imported: Mapping[str, str]) -> Mentions:
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


def of_function(package: Mapping[str, str], start: str) -> Mentions:
    """What a function names, with all that it reaches at the top of the files of its package.

    Whether it resolves a method counts for its own file only: helpers do so with any method.

    Args:
        package: full name of each file's module -> text.
        start: full name of the function.

    Raises:
        ValueError: if there is no such function.
    """
    files = {name: _read(text) for name, text in package.items()}
    own, _, function = start.rpartition(".")
    if function not in files[own].tops:
        known = ", ".join(files[own].tops)
        raise ValueError(f"no function {start!r}; at the top of its file: {known}.")
    waiting, done, found = [start], set(), Mentions(frozenset(), frozenset(), frozenset())
    while waiting:
        done.add(waiting[-1])
        module, _, name = waiting.pop().rpartition(".")
        if module not in files or name not in files[module].tops:
            continue  # of another package
        file = files[module]
        nodes = list(ast.walk(file.tops[name]))
        here = _of_nodes(nodes, file.imported)
        if module != own:
            resolving = {other for other in here.functions if other.endswith(".resolve_objective")}
            here = here._replace(functions=here.functions - resolving)
        found = Mentions(*(old | new for old, new in zip(found, here, strict=True)))
        beside = file.imported | {other: f"{module}.{other}" for other in file.tops}
        named = {node.id for node in nodes if isinstance(node, ast.Name)}
        waiting += sorted({beside[n] for n in named & set(beside)} - done - set(waiting))
    return found


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
    short = choice.removesuffix("_estimator")
    if option in found.strings and {choice, short} & (found.words | found.strings):
        return True
    resolved = any(name.endswith(".resolve_objective") for name in found.functions)
    return resolved and {method, choice} <= found.strings


def golden_adapters(sources: Mapping[str, str]) -> dict[str, Mentions]:
    """What the adapter of each golden file names.

    Args:
        sources: path -> text; the folder `golden_adapters/` among them, whose `__init__.py` maps
            slugs to functions: `"bnpo": bnpo.bnpo`.
    """
    package = {
        f"golden_adapters.{path.rpartition('/')[2].removesuffix('.py')}": text
        for path, text in sources.items()
        if "/golden_adapters/" in path
    }
    table = package.pop("golden_adapters.__init__")
    entries = re.findall(r'^    "([\w-]+)": (\w+\.\w+),$', table, re.MULTILINE)
    return {slug: of_function(package, f"golden_adapters.{name}") for slug, name in entries}
