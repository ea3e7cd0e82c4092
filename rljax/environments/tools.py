"""Tools: typed Python functions, the schemas that chat templates show, and calls of them.

    def multiply(a: int, b: int) -> int:
        \"\"\"Multiplies two numbers.

        Args:
            a: the first one.
            b: the second one.
        \"\"\"
        return a * b

What goes wrong in a call is a text that the model reads, never an exception.
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from rljax.environments.environment import FIELD
from rljax.errors import reason

Tool = Callable[..., Any]

# What a schema calls the types of Python.
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}

# Letters of a tool's answer; the rest is cut, and said to be.
LONGEST_ANSWER = 4000

_ARGUMENTS = re.compile(r"^\s*Args:\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^\s*(\w+)\s*(?:\([^)]*\))?:\s*(.+?)\s*$")


class Call(NamedTuple):
    """A call of a tool.

    Attributes:
        name: of the tool.
        arguments: by name.
    """

    name: str
    arguments: Mapping[str, Any]


class ToolAnswer(NamedTuple):
    """What a tool says.

    Attributes:
        text: for the model.
        failed: whether it is an error.
    """

    text: str
    failed: bool


def tool_table(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Tools by name.

    Raises:
        ValueError: for none, for two of one name, or for a signature that makes no schema.
    """
    table: dict[str, Tool] = {}
    for tool in tools:
        name = schema_of(tool)["function"]["name"]
        if name in table:
            raise ValueError(f"Two tools are called {name!r} ({FIELD}.name).")
        table[name] = tool
    if not table:
        raise ValueError(f"An environment with tools needs at least one ({FIELD}.name).")
    return table


def schema_of(tool: Tool) -> dict[str, Any]:
    """The JSON schema of a function, in the form that chat templates take.

    The first paragraph of its docstring describes it, "name: text" under "Args:" its parameters.

    Raises:
        ValueError: for a parameter without a type, of a type that JSON has not, or without a name.
    """
    name = getattr(tool, "__name__", type(tool).__name__)
    try:
        hints, parameters = typing.get_type_hints(tool), inspect.signature(tool).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ValueError(
            f"Tool {name!r} has no readable signature: {reason(error)} ({FIELD}.name)."
        ) from error
    described, properties = _described(tool), {}
    for key, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(
                f"Tool {name!r} takes {parameter}: a schema needs the name and the type of every "
                f"parameter ({FIELD}.name)."
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(
                f"Tool {name!r}: parameter {key!r} cannot be given by name ({FIELD}.name)."
            )
        if key not in hints:
            raise ValueError(f"Tool {name!r}: parameter {key!r} has no type ({FIELD}.name).")
        properties[key] = _schema(hints[key], f"Tool {name!r}: parameter {key!r}")
        if key in described:
            properties[key] |= {"description": described[key]}
    required = [key for key, each in parameters.items() if each.default is each.empty]
    summary = " ".join((inspect.getdoc(tool) or "").split("\n\n")[0].split())
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": summary,
            "parameters": {"type": "object", "properties": properties, "required": required},
        },
    }


def _described(tool: Tool) -> dict[str, str]:
    """What the docstring says of each parameter."""
    _, *rest = _ARGUMENTS.split(inspect.getdoc(tool) or "", maxsplit=1)
    found = {}
    for line in rest[0].splitlines() if rest else ():
        if line and not line.startswith(" "):
            break
        if match := _ARGUMENT.match(line):
            found[match[1]] = match[2]
    return found


def _schema(hint: Any, what: str) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in JSON_TYPES:
        return {"type": JSON_TYPES[hint]}
    if origin is typing.Literal:
        kinds = {type(value) for value in inner}
        if len(kinds) == 1 and kinds <= JSON_TYPES.keys():
            return {"type": JSON_TYPES[kinds.pop()], "enum": list(inner)}
    elif origin in (typing.Union, types.UnionType):
        some = [each for each in inner if each is not type(None)]
        if len(some) == 1:
            return _schema(some[0], what) | {"nullable": True}
    elif hint is list or origin is list:
        return {"type": "array"} | ({"items": _schema(inner[0], what)} if inner else {})
    elif hint is dict or (origin is dict and inner[0] is str):
        more = {"additionalProperties": _schema(inner[1], what)} if inner else {}
        return {"type": "object"} | more
    raise ValueError(
        f"{what} has the type {hint!r}; a schema knows str, int, float, bool, list[...], "
        f"dict[str, ...], Literal[...] and ... | None ({FIELD}.name)."
    )


def run_call(tools: Mapping[str, Tool], call: Call) -> ToolAnswer:
    """What a tool answers, as a text; what goes wrong is an answer too."""
    if call.name not in tools:
        return _error(f"there is no tool {call.name!r}; there are {', '.join(map(repr, tools))}")
    tool = tools[call.name]
    parameters = schema_of(tool)["function"]["parameters"]
    if missing := [key for key in parameters["required"] if key not in call.arguments]:
        return _error(f"{call.name} needs the argument {missing[0]!r}")
    for key, value in call.arguments.items():
        if key not in parameters["properties"]:
            return _error(f"{call.name} has no argument {key!r}")
        if not fits(value, parameters["properties"][key]):
            kind = parameters["properties"][key]["type"]
            return _error(f"{call.name}: {key}={value!r} is no {kind}")
    try:
        found = tool(**call.arguments)
        text = found if isinstance(found, str) else json.dumps(found, default=str)
    except Exception as error:  # whatever a tool raises is for the model to read
        return _error(f"{type(error).__name__}: {reason(error)}")
    if len(text) > LONGEST_ANSWER:
        text = f"{text[:LONGEST_ANSWER]} ... ({len(text) - LONGEST_ANSWER} letters more)"
    return ToolAnswer(text, False)


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is of a schema of `schema_of`."""
    if value is None:
        return bool(schema.get("nullable"))
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = {
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
        "array": list,
        "object": dict,
    }
    if isinstance(value, bool) and schema["type"] != "boolean":
        return False
    if not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(fits(each, schema["items"]) for each in value)
    if isinstance(value, dict) and "additionalProperties" in schema:
        return all(fits(each, schema["additionalProperties"]) for each in value.values())
    return True


def _error(text: str) -> ToolAnswer:
    return ToolAnswer(f"Error: {text}.", True)
