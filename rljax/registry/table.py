"""The method table as text."""

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from rljax.objectives.guide_policies import GUIDE_POLICIES
from rljax.registry import methods
from rljax.registry.families import FAMILIES
from rljax.registry.method import Method
from rljax.registry.methods import METHODS
from rljax.registry.objective import Objective, field_doc, resolve_objective

# What a method needs besides a policy, by the array that one of its parts names.
NEEDS = {
    "values": "critic",
    "component_values": "critic with a head for each reward",
    "roles": "episodes of several players",
    "greedy_scores": "greedy completion",
    "satisfied": "constraints",
    "objective_weights": "a backward pass of each reward",
    "loss_history": "losses of the last steps",
    "multipliers": "thresholds of the rewards",
    "components": "several rewards",
    "base_scores": "greedy completion of the start",
    "answer_logprobs": "reference answers",
    "start_values": "samples from prefixes",
    "old_entropy": "token entropies",
    "proxy_logprobs": "a second scoring pass",
}


class Kind(NamedTuple):
    """The rows of one file of `methods/`."""

    file: str  # without its suffix
    title: str  # first line of its docstring
    family: str
    common: dict[str, str]  # choices that most rows share
    rows: list[dict[str, str]]


class Line(NamedTuple):
    """A choice or a field of one method."""

    name: str
    value: str
    own: bool  # named in the method's row
    doc: str


def needs(objective: Objective) -> list[str]:
    """What a method needs besides prompts, a policy and a verifier, in words."""
    tree = objective.choices.get("rollouts") == "tree"
    found = ["reference policy"] if objective.needs_reference else []
    found += ["teacher"] if objective.needs_teacher else []
    found += ["guide policy"] if objective.choices.get("rollouts") in GUIDE_POLICIES else []
    found += ["groups"] if objective.needs_groups else []
    found += [
        word
        for name, word in NEEDS.items()
        # The nodes of a tree are prefixes and samples in one.
        if name in objective.inputs and not (tree and name == "start_values")
    ]
    if objective.choices.get("demonstrations", "none") != "none":
        found.append("demonstrations")
    return found


def parts(objective: Objective) -> dict[str, Any]:
    """The choices that are not the family's default, and the values that are the method's own."""
    defaults = FAMILIES[objective.family].defaults
    chosen = {
        choice: option
        for choice, option in objective.choices.items()
        if option != defaults.get(choice) or choice == "aggregation"
    }
    own = objective.method.parts
    return chosen | {name: own[name] for name in own if name in objective.values}


def kinds(family: str | None = None) -> list[Kind]:
    """The rows as text, by the file they stand in.

    A choice that more than half of a file's rows make alike is said once, in `common`; their own
    text leaves it out.

    Args:
        family: only the kinds of that family.
    """
    files = _modules()
    by_file: dict[Any, list[Method]] = {}
    for method in METHODS.values():
        by_file.setdefault(files[method.name], []).append(method)
    found = [_kind(module, rows) for module, rows in by_file.items()]
    return [kind for kind in found if family is None or kind.family == family]


def kind_files() -> dict[str, str]:
    """The file of `methods/` that each method stands in, without its suffix."""
    return {name: module.__name__.rpartition(".")[2] for name, module in _modules().items()}


def config_file(file: str, known: Callable[[str], bool]) -> str | None:
    """The config of the rows of a file of `methods/`, from the repository's root; None without one.

    Args:
        file: of `methods/`, without its suffix.
        known: whether there is such a path.
    """
    paths = (f"configs/rlvr/{file}.py", f"configs/{file}.py")
    return next((path for path in paths if known(path)), None)


def _modules() -> dict[str, Any]:
    return {
        row.name: module
        for module in vars(methods).values()
        if inspect.ismodule(module)
        for row in getattr(module, "ROWS", ())
    }


def _kind(module: Any, rows: list[Method]) -> Kind:
    family = FAMILIES[rows[0].family]
    # Of choices that every row makes: where one is missing, it is the family's default.
    made = [choice for choice in family.choices if choice not in family.defaults]
    made += ["aggregation"] if "aggregation" in family.choices else []
    objectives = {row.name: resolve_objective(row.name, {}) for row in rows}
    common = {}
    for choice in made:
        options = Counter(objective.choices[choice] for objective in objectives.values())
        ((option, count),) = options.most_common(1)
        if 2 * count > len(rows) > 1:
            common[choice] = option
    return Kind(
        file=module.__name__.rpartition(".")[2],
        title=inspect.cleandoc(module.__doc__).splitlines()[0].removesuffix("."),
        family=rows[0].family,
        common=common,
        rows=[_row(objective, common) for objective in objectives.values()],
    )


def _row(objective: Objective, common: dict[str, str]) -> dict[str, str]:
    shown = {
        name: value
        for name, value in parts(objective).items()
        if name not in common or common[name] != value
    }
    method = objective.method
    return {
        "method": method.name,
        "what it does": method.summary,
        "parts": ", ".join(f"{name}={value}" for name, value in shown.items()) or "-",
        "needs": ", ".join(needs(objective)) or "-",
        "paper": method.paper,
    }


def method_table() -> list[dict[str, str]]:
    """All rows as text, with all of their parts: method, family, parts, needs, paper, summary."""
    rows = []
    for method in METHODS.values():
        row = _row(resolve_objective(method.name, {}), {})
        row |= {"family": method.family, "summary": method.summary}
        columns = ("method", "family", "parts", "needs", "paper", "summary")
        rows.append({name: row[name] for name in columns})
    return rows


def method_lines(name: str) -> list[Line]:
    """Every choice and field of a method, with its value and meaning.

    Raises:
        ValueError: for an unknown method.
    """
    objective = resolve_objective(name, {})
    return [
        Line(
            field,
            "none" if value is None else str(value),
            field in objective.method.parts,
            field_doc(objective.family, field),
        )
        for field, value in objective.as_dict().items()
    ]
