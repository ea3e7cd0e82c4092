"""How models write calls of tools, by the name of the format.

| format | example |
| --- | --- |
| `hermes` (Qwen, Hermes) | `<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>` |
| `llama3` | `{"name": "add", "parameters": {"a": 1}}`, several with semicolons |
| `mistral` | `[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]` |
| `pythonic` (Llama 4, OLMo) | `[add(a=1), add(a=2)]` |
| `xml` (Qwen3-Coder) | `<tool_call><function=add><parameter=a>1</parameter></function>...` |
"""

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from rljax.environments.tools import Call
from rljax.errors import reason

# The calls of a reply; [] where it holds none.
Parser = Callable[[str], list[Call]]

_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"\s*<function=([^>]+)>(.*?)(?:</function>\s*|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_PYTHON_TAG, _MISTRAL_TAG = "<|python_tag|>", "[TOOL_CALLS]"


class CallError(ValueError):
    """A reply that calls a tool in a way that cannot be read; its text is for the model."""


def hermes(reply: str) -> list[Call]:
    """JSON between <tool_call> tags; an end that is missing is forgiven."""
    return [_call(_json(text), "arguments") for text in _TAGGED.findall(reply)]


def llama3(reply: str) -> list[Call]:
    """A reply that is JSON objects and nothing else, after the tag or without it."""
    text = reply.strip()
    tagged = text.startswith(_PYTHON_TAG)
    text = text.removeprefix(_PYTHON_TAG).strip()
    keys = ('"parameters"', '"arguments"')
    called = '"name"' in text and any(key in text for key in keys)
    if not tagged and not (text.startswith("{") and called):
        return []
    decoder, calls, place = json.JSONDecoder(), [], 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise CallError(f"the call is no JSON: {reason(error)}") from error
        calls.append(_call(value, "parameters", "arguments"))
        while place < len(text) and text[place] in "; \n":
            place += 1
    return calls


def mistral(reply: str) -> list[Call]:
    """A JSON list after [TOOL_CALLS]."""
    _, tag, text = reply.partition(_MISTRAL_TAG)
    if not tag:
        return []
    values = _json(text.strip())
    if not isinstance(values, list):
        raise CallError(f"{_MISTRAL_TAG} is followed by a list of calls")
    return [_call(value, "arguments") for value in values]


def pythonic(reply: str) -> list[Call]:
    """A Python list of calls with named, literal arguments; nothing is run."""
    text = reply.strip().removeprefix(_PYTHON_TAG).strip()
    if not re.match(r"\[\s*[A-Za-z_][\w.]*\(", text):
        return []
    try:
        tree = ast.parse(text, mode="eval").body
        return [_of_tree(node) for node in tree.elts]
    except (SyntaxError, ValueError, AttributeError, MemoryError, RecursionError) as error:
        raise CallError(f"the call cannot be read: {reason(error)}") from error


def xml(reply: str) -> list[Call]:
    """Functions and parameters as tags; a value that is JSON is read as such, else it is a text."""
    calls = []
    for text in _TAGGED.findall(reply):
        found = _FUNCTION.match(text)
        if found is None:
            raise CallError("<tool_call> is followed by <function=NAME>")
        pairs = {key.strip(): _value(value) for key, value in _PARAMETER.findall(found[2])}
        calls.append(Call(found[1].strip(), pairs))
    return calls


CALL_FORMATS: dict[str, Parser] = {
    "hermes": hermes,
    "llama3": llama3,
    "mistral": mistral,
    "pythonic": pythonic,
    "xml": xml,
}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CallError(f"the call is no JSON: {reason(error)}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _call(value: Any, *keys: str) -> Call:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise CallError("a call is an object with the keys 'name' and " + repr(keys[0]))
    arguments = next((value[key] for key in keys if key in value), {})
    if isinstance(arguments, str):  # OpenAI's form
        arguments = _json(arguments)
    if not isinstance(arguments, dict):
        raise CallError(f"{keys[0]!r} of a call is an object")
    return Call(value["name"], arguments)


def _of_tree(node: ast.AST) -> Call:
    if not isinstance(node, ast.Call) or node.args or any(k.arg is None for k in node.keywords):
        raise ValueError("a call is name(argument=value, ...)")
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    return Call(ast.unparse(node.func), arguments)
