"""A method's row with a config's changes: every choice made, every field with a value."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from rljax.errors import unknown_name
from rljax.objectives.advantages import BASELINE_UPDATES
from rljax.objectives.arrays import OF_REFERENCE
from rljax.objectives.batch_inputs import BATCH_INPUTS
from rljax.objectives.kl import KL_ESTIMATORS
from rljax.objectives.parts import Field, documented, fields_of, inputs_of
from rljax.objectives.policy_gradient import is_zero
from rljax.objectives.values import critic_loss
from rljax.registry.families import FAMILIES
from rljax.registry.fields import FIELD_DOCS, LIMITS
from rljax.registry.method import Method
from rljax.registry.methods import METHODS


@dataclasses.dataclass(frozen=True)
class Objective:
    """A resolved method: every choice made, every field that they read has a value."""

    method: Method
    family: str
    choices: Mapping[str, str]
    values: Mapping[str, Any]

    def part(self, choice: str) -> Callable:
        """The chosen function with its fields bound."""
        return self.bind(FAMILIES[self.family].choices[choice][self.choices[choice]])

    def bind(self, function: Callable) -> Callable:
        """A function with the values of its fields."""
        return functools.partial(
            function, **{name: self.values[name] for name in fields_of(function)}
        )

    @functools.cached_property
    def functions(self) -> dict[str, Callable]:
        """All functions that are called, by choice or by the array that they compute."""
        return chosen_functions(self.family, self.choices)

    @functools.cached_property
    def inputs(self) -> frozenset[str]:
        """The arrays that its parts name (objectives/arrays.py)."""
        return frozenset(name for part in self.functions.values() for name in inputs_of(part))

    @functools.cached_property
    def batch_inputs(self) -> dict[str, Callable]:
        """Functions of the whole batch of an update, fields bound, by the array they compute."""
        return {
            name: self.bind(part) for name, part in self.functions.items() if name in BATCH_INPUTS
        }

    @property
    def kl(self) -> Callable | None:
        """The KL estimator, or None without a KL term: a weight of 0 costs nothing."""
        weight = self.values.get("kl_weight", 0.0)
        return None if is_zero(weight) else KL_ESTIMATORS[self.values["kl_estimator"]]

    @property
    def needs_reference(self) -> bool:
        """Whether the frozen reference policy enters the loss or the reward: a part names it."""
        return self.kl is not None or not OF_REFERENCE.isdisjoint(self.inputs)

    def as_dict(self) -> dict[str, Any]:
        """Choices and values, as saved with the resolved config."""
        return {**self.choices, **self.values}


def chosen_functions(family: str, choices: Mapping[str, str]) -> dict[str, Callable]:
    """Every function that these choices call.

    A surrogate that names an array of `BATCH_INPUTS` brings in the function that computes it.
    """
    functions: dict[str, Callable] = {}
    for choice, option in choices.items():
        function = FAMILIES[family].choices[choice][option]
        functions |= {} if function is None else {choice: function}
    if choices.get("advantage") in BASELINE_UPDATES:
        functions["baseline"] = BASELINE_UPDATES[choices["advantage"]]
    if choices.get("value_target", "none") != "none":
        functions["critic"] = critic_loss
    read = {name for function in functions.values() for name in inputs_of(function)}
    return functions | {name: part for name, part in BATCH_INPUTS.items() if name in read}


def all_functions(family: str) -> list[Callable]:
    """Every function that some choice of a family calls."""
    tables = [*FAMILIES[family].choices.values()]
    if family == "policy_gradient":
        tables += [BASELINE_UPDATES, BATCH_INPUTS, {"critic": critic_loss}]
    return [part for table in tables for part in table.values() if part is not None]


def objective_fields(family: str) -> dict[str, Field]:
    """Every choice and field that some option of the family reads."""
    description = FAMILIES[family]
    fields = {choice: Field(None, str) for choice in description.choices}
    for function in all_functions(family):
        fields |= fields_of(function)
    for group in description.fields.values():
        fields |= group
    return fields


def field_doc(family: str, name: str) -> str:
    """What a choice or field means: from `FIELD_DOCS`, or the docstring of a part that reads it."""
    if name in FIELD_DOCS:
        return FIELD_DOCS[name]
    readers = (part for part in all_functions(family) if name in fields_of(part))
    return next((doc for part in readers if (doc := documented(part, name))), "")


def read_fields(family: str, choices: Mapping[str, str]) -> dict[str, Field]:
    """The fields that these choices read."""
    description = FAMILIES[family]
    fields = dict(description.fields.get("", {}))
    for function in chosen_functions(family, choices).values():
        fields |= fields_of(function)
    for choice, option in choices.items():
        fields |= description.fields.get(f"{choice}={option}", {})
    return fields


def resolve_objective(
    method: str, overrides: Mapping[str, Any], where: str = "config"
) -> Objective:
    """A method's row with the config's changes.

    Args:
        method: a name in `METHODS`.
        overrides: choices and fields that the config sets; None values count as not set.
        where: path of the stage in the config, for errors.

    Raises:
        ValueError: unknown method, option or field; a field that the chosen parts never read.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS, f"{where}.method")
    row = METHODS[method]
    description = FAMILIES[row.family]
    overrides = {name: value for name, value in overrides.items() if value is not None}
    known = objective_fields(row.family)
    for name in overrides:
        if name not in known:
            raise unknown_name(
                f"field of the {row.family} family", name, known, f"{where}.objective"
            )
    choices = {}
    for choice, table in description.choices.items():
        option = overrides.get(choice, row.parts.get(choice, description.defaults.get(choice)))
        if option not in table:
            raise unknown_name(choice, option, table, f"{where}.objective.{choice}")
        choices[choice] = option
    read = read_fields(row.family, choices)
    unread = sorted(set(overrides) - set(choices) - set(read))
    if unread:
        raise ValueError(
            f"{where}.objective.{unread[0]}={overrides[unread[0]]!r} is never read with "
            f"{', '.join(f'{c}={o!r}' for c, o in choices.items())}; fields that are: "
            f"{', '.join(sorted(read)) or 'none'} ({where}.objective)."
        )
    preset = {name: field.default for name, field in read.items()} | {
        name: value for name, value in row.parts.items() if name in read
    }
    values = preset | {name: value for name, value in overrides.items() if name in read}
    if values.get("kl_estimator", "k1") not in KL_ESTIMATORS:
        name = values["kl_estimator"]
        raise unknown_name("kl_estimator", name, KL_ESTIMATORS, f"{where}.objective.kl_estimator")
    for name, value in values.items():
        fits, allowed = LIMITS.get(name, (lambda _: True, "a finite number"))
        finite = not isinstance(value, float) or math.isfinite(value)
        if value is not None and not (finite and fits(value)):
            raise ValueError(f"{name} must be {allowed}, got {value!r} ({where}.objective.{name}).")
    return Objective(row, row.family, choices, values)
