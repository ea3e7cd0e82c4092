"""The graded reward of a tool call: its order, its literals, and what it refuses."""

import json

import pytest

from rljax.rewards.functions import REWARDS
from rljax.rewards.golds import GOLD_READERS
from rljax.rewards.tool_calls import parse_call

TOOLS = {"find": ["name", "country"], "weather": ["city", "day", "unit"], "now": []}
GOLD = {"call": "weather(city='Paris', day=1)", "tools": TOOLS}

SCORES = {
    "weather(city='Paris', day=1)": 1.0,
    ' weather( day = 1,\n city = "Paris" ) ': 1.0,
    "weather(city='Lyon', day=1)": -0.25,
    "weather(city='Paris', day='1')": -0.25,
    "weather(city='Paris', day=1.0)": -0.25,
    "weather(city='Paris', day=True)": -0.25,
    "weather(city='Paris')": -0.5,
    "weather(city='Paris', day=1, unit='C')": -0.5,
    "weather(city='Paris', day=1, sky='blue')": -0.8,
    "weather(city='Paris', unit='C')": -1.0,
    "weather(city='Paris', sky='blue')": -1.3,
    "weather(city='Paris', day=1, unit='C', sky='blue')": -1.3,
    "weather(unit='C', sky='blue')": -1.8,
    "find(name='Paris')": -1.5,
    "(city='Paris', day=1)": -1.5,
    "book(city='Paris', day=1)": -2.0,
    "weather('Paris', 1)": -2.0,
    "weather(city=Paris)": -2.0,
    "weather(city='Paris', city='Paris')": -2.0,
    "weather(**{'city': 'Paris'})": -2.0,
    "weather(city='Paris', day=1) or so": -2.0,
    "weather(city='Paris'); now()": -2.0,
    "": -2.0,
}


@pytest.mark.parametrize("completion", SCORES)
def test_scores(completion):
    for reference in (GOLD, json.dumps(GOLD)):
        assert REWARDS["tool_call"]("", completion, reference) == SCORES[completion]


def test_a_call_without_arguments():
    reference = {"call": "now()", "tools": TOOLS}
    assert REWARDS["tool_call"]("", "now()", reference) == 1.0
    assert REWARDS["tool_call"]("", "now(zone='UTC')", reference) == -0.8


@pytest.mark.parametrize("text", ["f(" * 5000, "f(x=" + "(" * 5000, "f(x=" + "9" * 10_000 + ")"])
def test_nonsense_is_no_call(text):
    call = parse_call(text)
    assert call is None or isinstance(call.arguments, dict)


@pytest.mark.parametrize(
    "reference, message",
    [
        ({"call": "weather(sky=1)", "tools": TOOLS}, "is none of the tools"),
        ({"call": "book()", "tools": TOOLS}, "is none of the tools"),
        ({"call": "weather", "tools": TOOLS}, "needs a gold call"),
        ({"call": "weather()", "tools": ["weather"]}, "needs a gold call"),
        ({"call": "weather()"}, "'call' and 'tools'"),
    ],
)
def test_references_that_are_none_are_refused(reference, message):
    with pytest.raises(ValueError, match=message):
        GOLD_READERS["tool_call"].read(reference)
