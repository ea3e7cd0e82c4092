"""A card for each method: equation, needs, fields, paper and code, tests, result. As Markdown.

`python launch/docs.py` writes them all to `cards/`; `python launch/methods.py --method=NAME --card`
prints one. Everything comes from the method's row, the docstrings of its parts, the tests and the
comparison's tables.
"""

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rljax.registry import docstrings
from rljax.registry.families import FAMILIES
from rljax.registry.markdown import paper_link, table
from rljax.registry.mentions import Mentions, golden_adapters, mention, of_source
from rljax.registry.methods import METHODS
from rljax.registry.objective import Objective, field_doc, read_fields, resolve_objective
from rljax.registry.table import config_file, kind_files, needs

UP = "../../../"  # from rljax/registry/cards/ to the root of the repository
COMPARISON = "rljax/comparison/README.md"
# Options that do nothing: where a family takes one by default, a card is silent about it.
IDLE = ("none", "constant", "fixed")
# Tests named in one cell, at most.
SHOWN = 5
# A family with so many choices, at most, has functions of its own; the loss of one with more is
# named by the tests of all its parts.
FEW = 6
ROWS = "tests/test_registry.py"
ROOMS = ("objectives", "training", "config", "sampling", "models")


class Part(NamedTuple):
    """A function that a method calls."""

    choice: str
    option: str
    function: Callable


class Sources(NamedTuple):
    """What cards are made of besides the method table."""

    tests: dict[str, Mentions]  # by path of the test file
    golden: dict[str, Mentions]  # by slug
    comparison: str  # text of COMPARISON
    configs: frozenset[str]  # paths of config files


def read_sources(root: Path) -> Sources:
    """The sources of a repository.

    Args:
        root: its folder.
    """
    texts = {str(p.relative_to(root)): p.read_text() for p in root.glob("tests/**/*.py")}
    # Those of the mathematics and of what trains with it; tests of tables and texts pin no part.
    tests = {
        path: text
        for path, text in texts.items()
        if Path(path).name.startswith("test_") and path.split("/")[1] in ROOMS
    }
    return Sources(
        tests={path: of_source(text) for path, text in sorted(tests.items())},
        golden=golden_adapters(texts),
        comparison=(root / COMPARISON).read_text(),
        configs=frozenset(str(p.relative_to(root)) for p in root.glob("configs/**/*.py")),
    )


def card(name: str, sources: Sources) -> str:
    """The card of a method.

    Raises:
        ValueError: for an unknown method.
    """
    objective = resolve_objective(name, {})
    shown = parts(objective)
    sections = [
        _head(objective, sources),
        _equations(objective, shown),
        _fields(objective),
        _differences(shown),
        _tests(objective, shown, sources),
        _result(name, sources.comparison),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def parts(objective: Objective) -> list[Part]:
    """The functions that make the method what it is."""
    defaults = FAMILIES[objective.family].defaults
    found = [
        Part(choice, objective.choices.get(choice, choice), function)
        for choice, function in objective.functions.items()
    ]
    found = [p for p in found if not (p.option in IDLE and p.option == defaults.get(p.choice))]
    if objective.kl is not None:
        found.append(Part("kl_estimator", objective.values["kl_estimator"], objective.kl))
    return found


def _label(part: Part) -> str:
    same = part.choice == part.option
    return f"`{part.choice}`" if same else f"`{part.choice}={part.option}`"


def _file(module: str) -> str:
    """The path of a module, from the root of the repository; a package is its `__init__.py`."""
    path = module.replace(".", "/")
    found = importlib.util.find_spec(module)
    package = found is not None and found.submodule_search_locations is not None
    return f"{path}/__init__.py" if package else f"{path}.py"


def _link(path: str, text: str = "") -> str:
    return f"[{text or path}]({UP}{path})"


def _head(objective: Objective, sources: Sources) -> str:
    method, family = objective.method, FAMILIES[objective.family]
    file = kind_files()[method.name]
    rows = [
        ["family", f"`{method.family}`: reads {family.data}"],
        ["needs", ", ".join(needs(objective)) or "nothing else"],
        ["paper", paper_link(method.paper)],
        ["row", _link(f"rljax/registry/methods/{file}.py")],
    ]
    if config := config_file(file, sources.configs.__contains__):
        rows.append(["config", f"`--config={config}:{method.name}`"])
    summary = method.summary[0].upper() + method.summary[1:]
    note = "<!-- Written by `python launch/docs.py`; change the row or the docstrings instead. -->"
    return f"# {method.name}\n\n{note}\n\n{summary}.\n\n{table(['', ''], rows)}"


def _equations(objective: Objective, shown: list[Part]) -> str:
    blocks = ["## Equation"]
    told = set()
    blocks += _module_equations(f"rljax.objectives.{objective.family}", told)
    for part in shown:
        module = part.function.__module__
        text = docstrings.as_markdown(part.function.__doc__ or "")
        blocks.append(f"{_label(part)}, {_link(_file(module))}: {text}")
        blocks += _module_equations(module, told)
    return "\n\n".join(blocks)


def _module_equations(module: str, told: set[str]) -> list[str]:
    """The equations at the head of a file, once."""
    text = docstrings.equations(docstrings.of_module(module))
    if not text or module in told:
        return []
    told.add(module)
    return [f"In {_link(_file(module))}:\n\n```\n{text}\n```"]


def _fields(objective: Objective) -> str:
    """Choices that are not the family's default, and every field that they read."""
    family, own = FAMILIES[objective.family], objective.method.parts
    read = read_fields(objective.family, objective.choices)
    idle = [c for c, option in objective.choices.items() if option == family.defaults.get(c)]
    rows = []
    for name, value in objective.as_dict().items():
        if name in idle:
            continue
        default = read[name].default if name in read else family.defaults.get(name)
        shown = f"**{_value(value)}**" if name in own else _value(value)
        before = _value(default) if name in read or name in family.defaults else "-"
        meaning = docstrings.without_tags(field_doc(objective.family, name))
        rows.append([f"`{name}`", shown, before, meaning])
    text = "## Fields\n\nBold values are the row's own."
    if rows:
        text += f"\n\n{table(['field', 'value', 'default', 'meaning'], rows)}"
    if idle:
        chosen = ", ".join(f"`{c}={objective.choices[c]}`" for c in idle)
        text += f"\n\nThe family's default: {chosen}."
    return text


def _value(value: Any) -> str:
    return "`none`" if value is None else f"`{value!r}`" if value == "" else f"`{value}`"


def _differences(shown: list[Part]) -> str:
    lines = [
        f"- {_label(part)}: {sentence}"
        for part in shown
        for sentence in docstrings.differences(part.function.__doc__ or "")
    ]
    # Each file once, in order.
    for module in dict.fromkeys(part.function.__module__ for part in shown):
        found = docstrings.differences(docstrings.of_module(module))
        lines += [f"- {_link(_file(module))}: {sentence}" for sentence in found]
    title = "## Paper and code\n\n"
    return title + ("\n".join(lines) if lines else "The docstrings name no difference.")


def _tests(objective: Objective, shown: list[Part], sources: Sources) -> str:
    method = objective.method.name
    found = {
        _label(part): _pins(sources, lambda said, part=part: mention(said, method, *part))
        for part in shown
    }
    if len(FAMILIES[objective.family].choices) <= FEW:
        prefix = f"rljax.objectives.{objective.family}."
        own = _pins(sources, lambda said: any(name.startswith(prefix) for name in said.functions))
        found |= {"the family's functions": own} if any(own) else {}
    # First those that name most of the method's parts.
    often = Counter(name for pins in found.values() for names in pins for name in names)
    rows = [
        [label, _few(slugs, often, "`{}`".format), _few(files, often, _test_link)]
        for label, (slugs, files) in found.items()
    ]
    runs = [
        path
        for path, said in sources.tests.items()
        if path.startswith("tests/training/") and method in said.strings
    ]
    text = f"## Tests\n\n{table(['part', 'golden cases', 'tests'], rows)}\n\n"
    text += f"{_link(ROWS)} holds the row against the values of its paper."
    return text + (f" Runs: {_few(runs, often, _test_link)}." if runs else "")


def _pins(sources: Sources, names: Callable[[Mentions], bool]) -> tuple[list[str], list[str]]:
    """The golden slugs and the test files that name something."""
    slugs = [slug for slug, said in sources.golden.items() if names(said)]
    return slugs, [path for path, said in sources.tests.items() if names(said)]


def _few(names: list[str], often: Counter, show: Callable[[str], str]) -> str:
    names = sorted(names, key=lambda name: (-often[name], name))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(show(name) for name in names[:SHOWN]) or "-") + more


def _test_link(path: str) -> str:
    return _link(path, path.removeprefix("tests/"))


def _result(name: str, comparison: str) -> str:
    """The method's lines of the comparison's tables: its own accuracy, claims that it is better."""
    found = [
        (head, [row for row in rows if row[0].split()[0] == name])
        for head, rows in _tables(comparison)
    ]
    own = [table(head, rows) for head, rows in found if rows]
    if not own:
        return "## In our comparison\n\nNot compared yet."
    text = f"## In our comparison\n\nCommands and all other methods: {_link(COMPARISON)}.\n\n"
    return text + "\n\n".join(own)


def _tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """The tables of the comparison's block: (names of columns, rows)."""
    block = text.partition("<!-- comparison -->")[2].partition("<!-- /comparison -->")[0]
    tables = re.findall(r"(?:^\|.*\n)+", block, re.MULTILINE)
    cells = [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
        for table in tables
    ]
    return [(lines[0], lines[2:]) for lines in cells]


def all_cards(sources: Sources) -> Mapping[str, str]:
    """The card of every method, by its name."""
    return {name: card(name, sources) for name in METHODS}
