"""Tool calls in what a model has written, and in what a client sends back.

One form is read, which the templates of Qwen, Hermes and others ask the model for:

    <tool_call>
    {"name": "add", "arguments": {"a": 1, "b": 2}}
    </tool_call>
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rljax.environments.call_formats import CallError, hermes

OPENING = "<tool_call>"


def tool_calls(text: str, tag: str) -> tuple[str | None, list[dict[str, Any]]]:
    """What stands before the calls, and the calls as OpenAI has them.

    Args:
        text: of the model.
        tag: begins the id of each call.

    Returns:
        (text, []) where any of the calls cannot be read: it is then a text like others.
    """
    try:
        found = hermes(text)
    except CallError:
        return text, []
    if not found:
        return text, []
    calls = [
        {
            "id": f"call-{tag}-{place}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": json.dumps(call.arguments, ensure_ascii=False),
            },
        }
        for place, call in enumerate(found)
    ]
    return text[: text.index(OPENING)].strip() or None, calls


def for_template(messages: Sequence[Any]) -> list[Any]:
    """Messages with the arguments of calls as objects, which chat templates want.

    A client sends them as JSON in a text. One that is no JSON stays a text.
    """
    return [
        _with_objects(message) if isinstance(message, Mapping) else message for message in messages
    ]


def _with_objects(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return dict(message)
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
