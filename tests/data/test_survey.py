"""What a data file holds, in words and counts."""

from collections import Counter

from rljax.data.survey import columns_of, convention_of, quantiles


def test_columns_count_types_and_what_is_missing():
    rows = [{"a": None, "b": True}, {"a": 1.5, "c": {}}, {"a": "x", "b": 2}]
    a, b, c = columns_of(rows)
    assert (a.name, a.kinds, a.example) == ("a", Counter({"null": 1, "float": 1, "text": 1}), 1.5)
    assert b.kinds == Counter({"true/false": 1, "whole number": 1, "null": 1})
    assert c.kinds == Counter({"null": 2, "object": 1}) and c.example == {}
    assert columns_of([{"only": 1}])[0].kinds == Counter({"whole number": 1})


def test_conventions():
    def message(role):
        return {"role": role, "content": "x"}

    assert convention_of("hi") == "text" and convention_of(" ") == "empty text"
    assert convention_of([message("system"), message("user")]) == "conversation: system, user"
    long = convention_of([message("user"), message("assistant")] * 5)
    assert long == "conversation: user, assistant, ... 7 more ..., assistant"
    assert convention_of(5) == "no prompt: whole number"
    assert convention_of([{"from": "human", "value": "x"}]) == "conversation: user"


def test_quantiles_are_lengths_of_rows():
    assert quantiles(range(101)) == {
        "least": 0, "median": 50, "90 %": 90, "99 %": 99, "greatest": 100
    }  # fmt: skip
    assert set(quantiles([7]).values()) == {7}
