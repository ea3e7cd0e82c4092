"""Calls as published models write them."""

import pytest

from rljax.environments.call_formats import CALL_FORMATS, CallError
from rljax.environments.tools import Call

ADD = Call("add", {"a": 1, "b": [2, "x"]})
JSON = '{"name": "add", "arguments": {"a": 1, "b": [2, "x"]}}'


@pytest.mark.parametrize(
    ("name", "reply", "calls"),
    [
        ("hermes", f"I add.\n<tool_call>\n{JSON}\n</tool_call>", [ADD]),
        ("hermes", f"<tool_call>{JSON}</tool_call>\n<tool_call>{JSON}</tool_call>", [ADD, ADD]),
        ("hermes", f"<tool_call>{JSON}", [ADD]),  # the end of the turn took the tag's place
        ("hermes", '<tool_call>{"name": "now"}</tool_call>', [Call("now", {})]),
        ("hermes", "the answer is 4", []),
        ("llama3", JSON.replace("arguments", "parameters"), [ADD]),
        ("llama3", f"<|python_tag|>{JSON}; {JSON}", [ADD, ADD]),
        ("llama3", "{not a call}", []),
        ("mistral", f"[TOOL_CALLS] [{JSON}]", [ADD]),
        ("mistral", "no", []),
        ("pythonic", "[add(a=1, b=[2, 'x']), m.now()]", [ADD, Call("m.now", {})]),
        ("pythonic", "[1, 2]", []),
        (
            "xml",
            "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n"
            '[2, "x"]\n</parameter>\n</function>\n</tool_call>',
            [ADD],
        ),
        (
            "xml",
            "<tool_call><function=say><parameter=t>two\nlines</parameter></function></tool_call>",
            [Call("say", {"t": "two\nlines"})],
        ),
    ],
)
def test_calls_are_read(name, reply, calls):
    assert CALL_FORMATS[name](reply) == calls


@pytest.mark.parametrize(
    ("name", "reply", "match"),
    [
        ("hermes", "<tool_call>add(1)</tool_call>", "no JSON"),
        ("hermes", "<tool_call>[1]</tool_call>", "keys 'name' and 'arguments'"),
        ("hermes", '<tool_call>{"name": "f", "arguments": 1}</tool_call>', "is an object"),
        ("llama3", "<|python_tag|>add(1)", "no JSON"),
        ("mistral", "[TOOL_CALLS] 1", "a list of calls"),
        ("pythonic", "[add(1)]", r"name\(argument=value"),
        ("pythonic", "[add(a=os.remove('x'))]", "cannot be read"),
        ("xml", "<tool_call>add</tool_call>", "<function=NAME>"),
    ],
)
def test_what_cannot_be_read_says_why(name, reply, match):
    with pytest.raises(CallError, match=match):
        CALL_FORMATS[name](reply)
