"""Tools: schemas of typed functions, and calls that never raise."""

from typing import Literal

import pytest

from rljax.environments.tools import Call, run_call, schema_of, tool_table


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C", at: list[str] | None = None):
    """Tells the weather
    of a city.

    Args:
        city: its name.
        days: how many.

    Returns:
        A text.
    """
    if city == "Atlantis":
        raise KeyError("sunk")
    return {"city": city, "days": days, "unit": unit}


def test_the_schema_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")

    def add(a: int, b: float, names: list[str], more: dict[str, int], exact: bool = True) -> str:
        """Adds two numbers.

        Args:
            a: the first.
            b: the second.
            names: of them.
            more: by name.
            exact: or not.
        """

    theirs = transformers.utils.get_json_schema(add)
    theirs["function"].pop("return", None)
    assert schema_of(add) == theirs


def test_the_schema_of_optional_and_chosen_values():
    parameters = schema_of(weather)["function"]["parameters"]
    assert schema_of(weather)["function"]["description"] == "Tells the weather of a city."
    assert parameters["required"] == ["city"]
    assert parameters["properties"] == {
        "city": {"type": "string", "description": "its name."},
        "days": {"type": "integer", "description": "how many."},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "at": {"type": "array", "items": {"type": "string"}, "nullable": True},
    }


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ({"city": "Rome", "days": 2}, '{"city": "Rome", "days": 2, "unit": "C"}'),
        ({"city": "Rome", "at": None}, '{"city": "Rome", "days": 1, "unit": "C"}'),
        ({}, "Error: weather needs the argument 'city'."),
        ({"city": "Rome", "day": 1}, "Error: weather has no argument 'day'."),
        ({"city": "Rome", "days": "1"}, "Error: weather: days='1' is no integer."),
        ({"city": "Rome", "days": True}, "Error: weather: days=True is no integer."),
        ({"city": "Rome", "unit": "K"}, "Error: weather: unit='K' is no string."),
        ({"city": "Rome", "at": [1]}, "Error: weather: at=[1] is no array."),
        ({"city": "Atlantis"}, "Error: KeyError: 'sunk'."),
    ],
)
def test_a_call_is_answered_or_its_error_is(arguments, answer):
    found = run_call(tool_table([weather]), Call("weather", arguments))
    assert found == (answer, answer.startswith("Error"))


def test_an_unknown_tool_is_an_answer_too():
    found = run_call(tool_table([weather]), Call("whether", {}))
    assert found.text == "Error: there is no tool 'whether'; there are 'weather'."


def test_long_answers_are_cut_and_say_so():
    def long() -> str:
        return "x" * 5000

    assert run_call(tool_table([long]), Call("long", {})).text.endswith("x ... (1000 letters more)")


def test_signatures_that_make_no_schema_are_refused():
    def untyped(a):
        pass

    def many(*names: str):
        pass

    def odd(a: set[int]):
        pass

    def placed(a: int, /):
        pass

    for tool, match in (
        (untyped, "Tool 'untyped': parameter 'a' has no type"),
        (many, r"Tool 'many' takes \*names"),
        (odd, r"parameter 'a' has the type set\[int\]; a schema knows"),
        (placed, "parameter 'a' cannot be given by name"),
    ):
        with pytest.raises(ValueError, match=match):
            tool_table([tool])
    with pytest.raises(ValueError, match="Two tools are called 'weather'"):
        tool_table([weather, weather])
    with pytest.raises(ValueError, match="needs at least one"):
        tool_table([])
