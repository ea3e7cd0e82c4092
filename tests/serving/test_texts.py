"""Texts of streams, and tool calls in texts."""

import json

import pytest

from rljax.data.tokenizers import ByteTokenizer
from rljax.sampling.request import StopReason
from rljax.sampling.texts import Texts
from rljax.serving.deltas import Deltas
from rljax.serving.tool_calls import OPENING, for_template, tool_calls

TEXTS = Texts(ByteTokenizer(), 259)


def pieces(text: str, stop=(), marks=(), size: int = 1) -> list[str]:
    """What is sent while a text grows by `size` bytes, and the rest at its end."""
    tokens = list(text.encode())
    deltas = Deltas(TEXTS, stop, marks)
    sent = [deltas.grown(tokens[:end]) for end in range(size, len(tokens), size)]
    return [*sent, deltas.ended(text)]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("text", ["plain", "größer 漢字 🙂 end", "aXXbXc"])
def test_pieces_join_to_the_text_and_hold_whole_characters(text, size):
    found = pieces(text, stop=("XX!", "Xd"), size=size)
    assert "".join(found) == text
    assert not any("\ufffd" in piece for piece in found)


def test_what_may_become_a_stop_string_is_held_back():
    assert pieces("a</b", stop=("</c",)) == ["a", "", "", "</b"]
    tokens = list(b"ab</c")
    deltas = Deltas(TEXTS, ("</c",))
    assert [deltas.grown(tokens[:end]) for end in range(1, 5)] == ["a", "b", "", ""]
    final, _ = TEXTS.of(tokens, StopReason.STOP_STRING, ("</c",))
    assert (final, deltas.ended(final)) == ("ab", "")


def test_nothing_behind_a_mark_is_sent_before_the_end():
    text = f"so {OPENING}x"
    assert "".join(pieces(text, marks=(OPENING,))[:-1]) == "so "


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def test_tool_calls_are_read():
    content, (one, two) = tool_calls(f"I add.\n{CALL}\n{CALL}", "t")
    assert content == "I add."
    assert one == {
        "id": "call-t-0",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1}'},
    }
    assert two["id"] == "call-t-1"
    assert tool_calls(CALL, "t")[0] is None


@pytest.mark.parametrize(
    "text", ["no call", "<tool_call>no json</tool_call>", "<tool_call>[1]</tool_call>", OPENING]
)
def test_what_is_no_call_stays_a_text(text):
    assert tool_calls(text, "t") == (text, [])


def test_arguments_that_a_client_sends_become_objects():
    _, calls = tool_calls(CALL, "t")
    broken = {"function": {"name": "add", "arguments": "{"}}
    messages = [{"role": "assistant", "tool_calls": [*calls, broken]}, {"role": "user"}, "x"]
    found = for_template(messages)
    assert found[0]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert found[0]["tool_calls"][1] == broken
    assert found[1:] == messages[1:]
    assert json.loads(calls[0]["function"]["arguments"]) == {"a": 1}  # the client's is unchanged
