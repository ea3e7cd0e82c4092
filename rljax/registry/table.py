"""The method table as text."""

from rljax.objectives.advantages import NEEDS_GROUPS
from rljax.registry.families import FAMILIES
from rljax.registry.methods import METHODS
from rljax.registry.objective import Objective, resolve_objective

# What a method needs besides a policy, by the array that one of its parts names.
NEEDS = {
    "values": "critic",
    "greedy_scores": "greedy completion",
    "start_values": "samples from prefixes",
    "old_entropy": "token entropies",
    "proxy_logprobs": "a second scoring pass",
}


def needs(objective: Objective) -> list[str]:
    """What a method needs besides prompts, a policy and a verifier, in words."""
    found = ["reference policy"] if objective.needs_reference else []
    found += ["groups"] if objective.choices.get("advantage") in NEEDS_GROUPS else []
    found += [word for name, word in NEEDS.items() if name in objective.inputs]
    if objective.choices.get("demonstrations", "none") != "none":
        found.append("demonstrations")
    return found


def parts(objective: Objective) -> dict[str, str]:
    """The choices that are not the family's default, and the values that are the method's own."""
    defaults = FAMILIES[objective.family].defaults
    chosen = {
        choice: option
        for choice, option in objective.choices.items()
        if option != defaults.get(choice) or choice == "aggregation"
    }
    own = objective.method.parts
    return chosen | {name: own[name] for name in own if name in objective.values}


def method_table() -> list[dict[str, str]]:
    """The rows as text: method, family, parts, what it needs, paper, summary."""
    rows = []
    for method in METHODS.values():
        objective = resolve_objective(method.name, {})
        rows.append(
            {
                "method": method.name,
                "family": method.family,
                "parts": ", ".join(f"{name}={value}" for name, value in parts(objective).items()),
                "needs": ", ".join(needs(objective)) or "-",
                "paper": method.paper,
                "summary": method.summary,
            }
        )
    return rows
