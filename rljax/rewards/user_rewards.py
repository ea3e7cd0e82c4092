"""A reward of the user: "path/to/file.py:function", or "package.module:function"."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rljax.errors import unknown_name
from rljax.user_modules import import_dotted, import_file

FIELD = "config.scoring.rewards"

# How other stacks call the arguments of rewards that score a whole batch at once.
_BATCHED = {"completions", "prompts", "solution_strs"}
_RULE = (
    "a reward scores one sample, reward(prompt, completion, reference) -> float, with options as "
    "keyword-only arguments"
)


def is_user_reward(name: str) -> bool:
    """Whether a reward's name says where to find a function."""
    return ":" in name


def absolute(name: str) -> str:
    """The same name for a process with another working directory."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).resolve()}:{function}" if _is_file(place) else name


def reward_file(name: str) -> Path:
    """The file that holds a user's reward.

    Raises:
        ValueError: for a module that cannot be imported.
    """
    place = name.rpartition(":")[0]
    if _is_file(place):
        return Path(place)
    return Path(import_dotted(place, field=FIELD).__file__)


def find_user_reward(name: str) -> Callable[..., Any]:
    """The function of that name.

    Raises:
        ValueError: no such file, module or function, an error in it, or no reward's parameters.
    """
    place, _, function_name = name.rpartition(":")
    if _is_file(place):
        if not Path(place).is_file():
            raise ValueError(
                f"No reward file {place!r} (from {str(Path.cwd())!r}); give "
                f"'path/to/file.py:function' ({FIELD})."
            )
        module = import_file(place, field=FIELD)
    else:
        module = import_dotted(place, field=FIELD)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise unknown_name(f"function of {place}", function_name, known, FIELD)
    _check_parameters(name, function)
    return function


def _is_file(place: str) -> bool:
    """A dotted name has no slash, and ends with no suffix of a file."""
    return "/" in place or place.endswith(".py") or not all(map(str.isidentifier, place.split(".")))


def _check_parameters(name: str, function: Callable[..., Any]) -> None:
    """Raises ValueError unless the function can be called with one sample."""
    if inspect.isclass(function):
        raise ValueError(f"Reward {name!r} is a class; name an instance: {_RULE} ({FIELD}).")
    for called in (function, getattr(function, "func", None), type(function).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise ValueError(f"Reward {name!r} is async, which nothing awaits: {_RULE} ({FIELD}).")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some functions in C
        raise ValueError(f"Reward {name!r} has no readable signature: {_RULE} ({FIELD}).") from None
    parameters = signature.parameters.values()
    if _BATCHED & set(signature.parameters):
        raise ValueError(
            f"Reward {name!r} takes a whole batch, {signature}, as in TRL: here {_RULE}. Wrap it: "
            f"one prompt and one completion in lists, the first of what it returns ({FIELD})."
        )
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):  # a decorator that hides the signature
        return
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 3:
        raise ValueError(
            f"Reward {name!r} must take (prompt, completion, reference) and options as "
            f"keyword-only arguments, got {signature} ({FIELD})."
        )
