"""The graded reward of TL-Training (arXiv:2412.15495): one tool call against the gold call.

References are {"call": "name(key = value, ...)", "tools": {name: [parameter, ...], ...}}, or that
as JSON text.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rljax.rewards.references import reference_fields

_CALL = re.compile(r"\s*(\w[\w.]*)?\s*(\(.*\))\s*", re.DOTALL)

# What is wrong with the arguments -> reward, the first that matches: parameters that the tool has
# not, parameters of the tool that the gold call leaves out, and parameters that are missing.
HALLUCINATED, REDUNDANT, MISSING = "hallucinated", "redundant", "missing"
FAULTS = (
    ({HALLUCINATED, REDUNDANT, MISSING}, -1.8),
    ({HALLUCINATED, REDUNDANT}, -1.3),
    ({HALLUCINATED, MISSING}, -1.3),
    ({REDUNDANT, MISSING}, -1.0),
    ({HALLUCINATED}, -0.8),
    ({REDUNDANT}, -0.5),
    ({MISSING}, -0.5),
)
NO_CALL, WRONG_TOOL, WRONG_VALUE, EXACT = -2.0, -1.5, -0.25, 1.0


class Call(NamedTuple):
    """A tool call."""

    name: str  # "": none was written
    arguments: dict[str, Any]


def tool_call(prompt: str, completion: str, reference: Any) -> float:
    """1.0 for the gold call, else minus how wrong the call is: -0.25 for a wrong value, to -2.0.

    The completion is one call with named, literal arguments. In this order: -2 where it is none, or
    names a tool that is not there; -1.5 for another tool, or none; for its parameters -1.8, -1.3,
    -1.0, -0.8 or -0.5 (`FAULTS`); -0.25 for a wrong value. Values are compared as literals: the
    text '1' is not the number 1.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: gold call and tools.
    """
    gold, tools = read_call(reference)
    call = parse_call(completion)
    if call is None or (call.name and call.name not in tools):
        return NO_CALL
    if call.name != gold.name:
        return WRONG_TOOL
    given, wanted, known = set(call.arguments), set(gold.arguments), set(tools[gold.name])
    faults = {
        HALLUCINATED: given - known,
        REDUNDANT: (given & known) - wanted,
        MISSING: wanted - given,
    }
    found = {fault for fault, names in faults.items() if names}
    for kinds, score in FAULTS:
        if kinds <= found:
            return score
    return EXACT if _same(call.arguments, gold.arguments) else WRONG_VALUE


def parse_call(text: str) -> Call | None:
    """A call `name(key = literal, ...)`; None for anything else. Nothing is run."""
    found = _CALL.fullmatch(text)
    if found is None:
        return None
    try:
        (statement,) = ast.parse(f"call{found[2]}").body
        call = statement.value
        if not isinstance(call, ast.Call) or call.args:
            return None
        values = [(each.arg, ast.literal_eval(each.value)) for each in call.keywords]
    except (SyntaxError, ValueError, TypeError, AttributeError, MemoryError, RecursionError):
        return None
    arguments = dict(values)
    whole = None not in arguments and len(arguments) == len(values)
    return Call(found[1] or "", arguments) if whole else None


def read_call(reference: Any) -> tuple[Call, dict[str, list[str]]]:
    """The gold call and the parameters of each tool.

    Raises:
        ValueError: for another reference, or a call that its own tools do not allow.
    """
    text, tools = reference_fields(reference, ("call", "tools"), "tool_call")
    call = parse_call(text) if isinstance(text, str) else None
    if not isinstance(tools, Mapping) or call is None or not call.name:
        raise ValueError(
            f"The reward 'tool_call' needs a gold call like \"name(key = 'value')\" and tools with "
            f"their parameters, got {reference!r} (config.data.reference_column)."
        )
    if call.name not in tools or not set(call.arguments) <= set(tools[call.name]):
        raise ValueError(
            f"The gold call {text!r} is none of the tools {tools!r} (config.data.reference_column)."
        )
    return call, {name: list(parameters) for name, parameters in tools.items()}


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Equal values of equal types: 1, 1.0 and True are three values."""
    return all(repr(ours[name]) == repr(value) for name, value in theirs.items())
