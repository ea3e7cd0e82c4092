"""What a part is: a pure function whose signature says what it reads.

Positional arguments are arrays, and their *names* say which: `mask`, `old_logprobs`, `values`.
Whoever calls a part holds its arrays in a mapping from names; the table of names is in
`objectives/arrays.py`. A critic, a greedy rollout or a reference policy is needed exactly
where a chosen part names `values`, `greedy_scores` or `ref_logprobs`.

Keyword-only arguments are config fields with their defaults and types. A number among them may be
traced, since runs that differ in a number are compiled together: parts never branch on it.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array


@dataclasses.dataclass(frozen=True)
class Field:
    """A config field of an objective: its default and its type; of a tuple that of its items."""

    default: Any
    type: type
    items: type = str


def fields_of(function: Callable, *, leave_out: tuple[str, ...] = ()) -> dict[str, Field]:
    """The keyword-only arguments of a part, with their types (`float | None` counts as float).

    The items of a tuple have the type that `tuple[float, ...]` names.
    """
    fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in leave_out:
            if typing.get_origin(parameter.annotation) is tuple:
                items = typing.get_args(parameter.annotation)[0]
                fields[name] = Field(parameter.default, tuple, items)
                continue
            options = getattr(parameter.annotation, "__args__", (parameter.annotation,))
            kind = next(option for option in options if option is not type(None))
            fields[name] = Field(parameter.default, kind)
    return fields


def documented(function: Callable, name: str) -> str:
    """What the docstring's `Args` say about an argument, on one line; "" if they say nothing."""
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    if "Args:" not in lines:
        return ""
    found: list[str] = []
    for line in lines[lines.index("Args:") + 1 :]:
        if not line.startswith("    "):
            break
        if found and not line.startswith("     "):
            break
        if found or line.strip().startswith(f"{name}: "):
            found.append(line.strip().removeprefix(f"{name}: "))
    return " ".join(found).split(". ")[0].rstrip(".;")


def inputs_of(function: Callable) -> tuple[str, ...]:
    """The names of the arrays that a part reads, in order."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)


def apply(function: Callable, arrays: Mapping[str, Array]) -> Any:
    """Calls a part with the arrays that it names.

    Raises:
        ValueError: for an array that is not in `arrays`.
    """
    names = inputs_of(function)
    missing = [name for name in names if name not in arrays]
    if missing:
        part = getattr(function, "func", function).__name__
        raise ValueError(
            f"{part!r} reads {missing[0]!r}, which is not there; given: {', '.join(arrays)}."
        )
    return function(*(arrays[name] for name in names))


def check_field(name: str, value: Any, fits: Callable[[Any], bool], allowed: str) -> None:
    """Raises ValueError unless a field's value fits. A traced value was checked before.

    Args:
        name: the field's name.
        value: the field's value.
        fits: whether a value is allowed; not called for None, which switches a field off.
        allowed: what is allowed, in words, for the error.
    """
    if value is None or isinstance(value, jax.core.Tracer):
        return
    if not fits(value):
        raise ValueError(
            f"{name} is {value!r}; it must be {allowed} (config.<stage>.objective.{name})."
        )
