"""The argument of a config file, FILE:ARG, is refused where the config does not look at it.

A config that takes none has a function `get_config()`; one that takes some raises ValueError for
what it does not know.
"""

import dis
import inspect
from collections.abc import Callable
from typing import Any

from rljax.errors import unknown_name

SMOKE = "smoke"
FIELD = "--config=FILE[:ARG]"


def call_get_config(function: Callable[..., Any], argument: str, file: str) -> Any:
    """What `get_config` of a file returns for an argument.

    Args:
        function: get_config.
        argument: without `smoke`.
        file: its file, for errors.

    Raises:
        ValueError: for an argument that the function does not take, or never looks at.
    """
    takes, reads = _takes_argument(function), _reads_argument(function)
    if argument and not (takes and reads):
        raise unknown_name(f"argument of {file}", argument, [SMOKE], FIELD)
    return function(argument) if takes else function()


def _takes_argument(function: Callable[..., Any]) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(kind in positional for kind in kinds)


def _reads_argument(function: Callable[..., Any]) -> bool:
    """Whether a plain function loads its first parameter anywhere; others are taken to do so.

    Many configs are written `get_config(arg="")` and never look at `arg`: a slip in `smoke` would
    then start the whole run.
    """
    code = getattr(function, "__code__", None)
    if code is None or not code.co_argcount:
        return True
    name = code.co_varnames[0]
    if name in code.co_cellvars:  # read by a function inside
        return True
    loaded = (i.argval for i in dis.get_instructions(code) if "LOAD_FAST" in i.opname)
    return any(name in (value if isinstance(value, tuple) else (value,)) for value in loaded)
