"""A method's row with a config's changes: every choice made, every field with a value."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from rljax.errors import unknown_name
from rljax.objectives.arrays import OF_REFERENCE, OF_TEACHER
from rljax.objectives.kl import KL_ESTIMATORS
from rljax.objectives.parts import Field, documented, fields_of, inputs_of
from rljax.objectives.policy_gradient import is_zero
from rljax.registry.families import FAMILIES, Family
from rljax.registry.families.description import Together
from rljax.registry.families.limits import Limit
from rljax.registry.method import Method
from rljax.registry.methods import METHODS

NUMBER = Limit(lambda x: True, "a finite number")


@dataclasses.dataclass(frozen=True)
class Objective:
    """A resolved method: every choice made, every field that they read has a value."""

    method: Method
    family: str
    choices: Mapping[str, str]
    values: Mapping[str, Any]

    @property
    def description(self) -> Family:
        """The record of its family."""
        return FAMILIES[self.family]

    def part(self, choice: str) -> Callable:
        """The chosen function with its fields bound."""
        return self.bind(self.description.choices[choice][self.choices[choice]])

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
        known = self.description.batch_inputs
        return {name: self.bind(part) for name, part in self.functions.items() if name in known}

    @property
    def together(self) -> Together:
        """Which sequences of a batch stay together."""
        record = self.description
        own = (record.togethers[x] for x in options(self.choices) if x in record.togethers)
        return next(own, record.together)

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of the networks that it trains."""
        record = self.description
        own = (record.option_heads.get(x) for x in options(self.choices))
        return next((heads for heads in own if heads), record.heads)

    @property
    def rows_beside(self) -> int:
        """Rows of a prompt besides its samples."""
        beside = self.description.rows_beside
        return sum(beside.get(chosen, 0) for chosen in options(self.choices))

    @property
    def guided(self) -> bool:
        """Whether a prompt has as many rows again, of samples behind a hint."""
        return self.choices.get("demonstrations") == "guided"

    @property
    def completion_slots(self) -> tuple[tuple[str, ...], ...]:
        """Fields that add up to a completion's slots: in rows to learn from, in rows to score."""
        record, chosen = self.description, options(self.choices)
        more = [record.more_slots[x] for x in chosen if x in record.more_slots]
        return (record.completion_slots, *(record.completion_slots + fields for fields in more))

    @property
    def kl(self) -> Callable | None:
        """The KL estimator, or None without a KL term: a weight of 0 costs nothing."""
        weight = self.values.get("kl_weight", 0.0)
        return None if is_zero(weight) else KL_ESTIMATORS[self.values["kl_estimator"]]

    @property
    def needs_reference(self) -> bool:
        """Whether the frozen reference policy enters the loss or the reward: a part names it."""
        return self.kl is not None or not OF_REFERENCE.isdisjoint(self.inputs)

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher that is another model is compared with, or sampled from."""
        if self.choices.get("teacher_update") == "moving":
            return False
        compared = not OF_TEACHER.isdisjoint(self.inputs)
        return compared or self.choices.get("off_policy") == "teacher"

    @property
    def needs_groups(self) -> bool:
        """Whether the prompt's other samples are the baseline of a sample."""
        baselines = self.description.group_baselines
        return any(self.choices[choice] in grouped for choice, grouped in baselines.items())

    def as_dict(self) -> dict[str, Any]:
        """Choices and values, as saved with the resolved config."""
        return {**self.choices, **self.values}


def options(choices: Mapping[str, str]) -> list[str]:
    """Choices as records write them: "choice=option"."""
    return [f"{choice}={option}" for choice, option in choices.items()]


def chosen_functions(family: str, choices: Mapping[str, str]) -> dict[str, Callable]:
    """Every function that these choices call.

    A part that names an array of `Family.batch_inputs` brings in the function that computes it.
    """
    record = FAMILIES[family]
    functions: dict[str, Callable] = {}
    for choice, option in choices.items():
        function = record.choices[choice][option]
        functions |= {} if function is None else {choice: function}
    for chosen in options(choices):
        functions |= record.functions.get(chosen, {})
    read = {name for function in functions.values() for name in inputs_of(function)}
    return functions | {name: part for name, part in record.batch_inputs.items() if name in read}


def all_functions(family: str) -> list[Callable]:
    """Every function that some choice of a family calls."""
    record = FAMILIES[family]
    tables = [*record.choices.values(), *record.functions.values(), record.batch_inputs]
    return [part for table in tables for part in table.values() if part is not None]


def objective_fields(family: str) -> dict[str, Field]:
    """Every choice and field that some option of the family reads."""
    record = FAMILIES[family]
    fields = {choice: Field(None, str) for choice in record.choices}
    for function in all_functions(family):
        fields |= fields_of(function)
    for group in record.fields.values():
        fields |= group
    return fields


def field_doc(family: str, name: str) -> str:
    """What a choice or field means: from the family's record, or a part that reads it."""
    if name in FAMILIES[family].docs:
        return FAMILIES[family].docs[name]
    readers = (part for part in all_functions(family) if name in fields_of(part))
    return next((doc for part in readers if (doc := documented(part, name))), "")


def read_fields(family: str, choices: Mapping[str, str]) -> dict[str, Field]:
    """The fields that these choices read."""
    record = FAMILIES[family]
    fields = dict(record.fields.get("", {}))
    for function in chosen_functions(family, choices).values():
        fields |= fields_of(function)
    for chosen in options(choices):
        fields |= record.fields.get(chosen, {})
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
    overrides = {name: value for name, value in overrides.items() if value is not None}
    known = objective_fields(row.family)
    for name in overrides:
        if name not in known:
            raise unknown_name(
                f"field of the {row.family} family", name, known, f"{where}.objective"
            )
    choices = _choices(row, overrides, where)
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
    _check_values(FAMILIES[row.family], values, where)
    return Objective(row, row.family, choices, values)


def _choices(row: Method, overrides: Mapping[str, Any], where: str) -> dict[str, str]:
    """What the config says, else the method's row, else the family."""
    record = FAMILIES[row.family]
    choices = {}
    for choice, table in record.choices.items():
        option = overrides.get(choice, row.parts.get(choice, record.defaults.get(choice)))
        if option not in table:
            raise unknown_name(choice, option, table, f"{where}.objective.{choice}")
        choices[choice] = option
    return choices


def _check_values(record: Family, values: Mapping[str, Any], where: str) -> None:
    if values.get("kl_estimator", "k1") not in KL_ESTIMATORS:
        name = values["kl_estimator"]
        raise unknown_name("kl_estimator", name, KL_ESTIMATORS, f"{where}.objective.kl_estimator")
    for name, value in values.items():
        limit = record.limits.get(name, NUMBER)
        finite = not isinstance(value, float) or math.isfinite(value)
        if value is not None and not (finite and limit.fits(value)):
            raise ValueError(
                f"{name} must be {limit.words}, got {value!r} ({where}.objective.{name})."
            )
