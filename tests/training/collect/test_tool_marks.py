"""Decisive tokens of tool calls, found in text and in tokens."""

import json

import numpy as np
import pytest

from rljax.data.packing import Example
from rljax.training.collect.tool_marks import (
    Marks,
    call_offsets,
    marks_of,
    packed_marks,
    tool_names,
)

TOOLS = ["get_a", "get_b", "find", "get_a_lot"]


def shown(text, offsets):
    return [text.encode()[offset : offset + 1].decode() for offset in offsets]


def test_names_are_marked_where_they_begin_and_where_they_differ():
    keys, values = call_offsets("get_b(x = 12, y = 'u')", TOOLS)
    assert keys == [0, 4] and values == [11, 20]
    # A longer name differs behind the end of ours, and nothing begins like `find`.
    assert call_offsets(" get_a(x=1)", TOOLS) == ([1, 5, 6], [9])
    assert call_offsets("find(q=[1, 2])", TOOLS) == ([0], [12])
    assert call_offsets("find()", TOOLS) == ([0], [])
    text = "find(\u00e4='\u00f6', z={'k': 1})"
    assert shown(text, call_offsets(text, TOOLS)[1]) == ["'", "}"]


@pytest.mark.parametrize("text", ["the answer is 3", "", "find(", "find(x=1) and more", "f(\nx=1)"])
def test_what_is_no_call_on_one_line_has_no_marks(text):
    assert call_offsets(text, TOOLS) == ([], [])


def test_tokens_that_hold_the_bytes_are_marked():
    words = [b"ask", b" ge", b"t_", b"b(", b"x = ", b"12", b")", b""]
    example = Example(list(range(8)), [False] + [True] * 7)
    stage = type("S", (), {"name": "s"})
    record = {"completion": "get_b(x = 12)", "tools": [{"function": {"name": n}} for n in TOOLS]}
    marks = marks_of(record, example, words, stage, "row 1")
    np.testing.assert_array_equal(np.flatnonzero(marks.key), [1, 3])
    np.testing.assert_array_equal(np.flatnonzero(marks.value), [5])
    # As hubs hold them.
    as_text = marks_of(
        {**record, "tools": json.dumps(record["tools"])}, example, words, stage, "row 1"
    )
    np.testing.assert_array_equal(as_text, marks)
    with pytest.raises(ValueError, match="row 1: the column 'tools' is no JSON"):
        marks_of({**record, "tools": "get_a"}, example, words, stage, "row 1")
    with pytest.raises(ValueError, match="row 1: token_weight='key_tokens' reads"):
        marks_of({"completion": "get_b()"}, example, words, stage, "row 1")


def test_tools_are_given_by_name_or_schema():
    assert tool_names(["a", {"name": "b"}, {"function": {"name": "c"}}]) == ["a", "b", "c"]
    for none in (None, [], "a", [1], [{"function": {}}]):
        assert tool_names(none) is None


def test_marks_of_a_row_follow_its_plan():
    marks = [Marks(np.array([True, False]), np.array([False, True])) for _ in range(3)]
    key, value = packed_marks(marks, [[2, 0], [1]], 5)
    np.testing.assert_array_equal(key, [[1, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(value, [[0, 1, 0, 1, 0], [0, 1, 0, 0, 0]])
