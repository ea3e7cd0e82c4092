"""Environments by name, and the user's own: "path/to/file.py", or "path/to/file.py:name"."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rljax.environments.calculator import calculator
from rljax.environments.dictionary import Dictionary
from rljax.environments.environment import FIELD, Environment
from rljax.environments.games import Games
from rljax.environments.guess import Guess
from rljax.environments.kuhn import Kuhn
from rljax.environments.lookup import Lookup
from rljax.environments.nim import Nim
from rljax.environments.proposals import Proposals
from rljax.environments.retries import Retries
from rljax.environments.waltz import Waltz
from rljax.errors import reason, unknown_name
from rljax.user_modules import import_dotted, import_file

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "calculator": calculator,
    "dictionary": Dictionary,
    "games": Games,
    "guess": Guess,
    "kuhn": Kuhn,
    "lookup": Lookup,
    "nim": Nim,
    "proposals": Proposals,
    "retries": Retries,
    "waltz": Waltz,
}

NAME = f"{FIELD}.name"


def find_environment(name: str, options: Mapping[str, Any]) -> Environment:
    """The environment of that name.

    Args:
        name: of `ENVIRONMENTS`; a Python file with the functions reset and step; or "FILE:NAME" or
            "package.module:NAME", an object with them, or what makes one.
        options: keyword arguments of what makes it.

    Raises:
        ValueError: for an unknown name, a missing file or function, or options that it does not
            take.
    """
    if name in ENVIRONMENTS:
        return _made(ENVIRONMENTS[name], name, options)
    if not is_users(name):
        raise unknown_name("environment", name, [*ENVIRONMENTS, "path/to/file.py"], NAME)
    found = imported(name, NAME)
    if callable(getattr(found, "reset", None)) and not inspect.isclass(found):
        if options:
            raise ValueError(
                f"{name!r} is made already and takes no options; name a class or a function that "
                f"makes it ({FIELD}.options)."
            )
        made = found
    else:
        made = _made(found, name, options)
    for function in ("reset", "step"):
        if not callable(getattr(made, function, None)):
            raise ValueError(f"{name!r} has no function {function}() ({NAME}).")
    return made


def imported(name: str, field: str) -> Any:
    """A module, or what is called so in it: "FILE.py[:NAME]" or "package.module[:NAME]".

    Args:
        name: of both.
        field: that names it, for errors.

    Raises:
        ValueError: for a missing file or name, or an error in the file.
    """
    place, _, member = name.partition(":")
    load = import_file if _is_file(place) else import_dotted
    module = load(place, field=field)
    if member and not hasattr(module, member):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise unknown_name(f"name of {place}", member, known, field)
    return getattr(module, member) if member else module


def is_users(name: str) -> bool:
    """Whether a name says where to find an environment."""
    return ":" in name or name.endswith(".py")


def environment_file(name: str) -> Path:
    """The file that holds a user's environment."""
    place = name.partition(":")[0]
    return Path(place) if _is_file(place) else Path(import_dotted(place, field=NAME).__file__)


def absolute_name(name: str) -> str:
    """The same name for a process with another working directory."""
    if not is_users(name):
        return name
    place, colon, member = name.partition(":")
    return f"{Path(place).resolve()}{colon}{member}" if _is_file(place) else name


def _is_file(place: str) -> bool:
    return "/" in place or place.endswith(".py")


def _made(make: Any, name: str, options: Mapping[str, Any]) -> Environment:
    if not callable(make):
        raise ValueError(f"{name!r} is no environment and makes none ({NAME}).")
    try:
        bound = inspect.signature(make).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"Environment {name!r} does not take these options: {reason(error)} ({FIELD}.options)."
        ) from error
    return make(*bound.args, **bound.kwargs)
