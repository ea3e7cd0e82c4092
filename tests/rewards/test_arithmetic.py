"""The value of a text, compared with Python's own."""

import itertools
import random
import warnings

import pytest

from rljax.rewards.arithmetic import MAX_BITS, MAX_DEPTH, evaluate


def python_value(text):
    """What Python makes of a text of the test's own, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a number that is called
            value = eval(text.strip(), {"__builtins__": None}, {})
    except Exception:
        return None
    too_large = isinstance(value, int) and value.bit_length() > MAX_BITS
    return value if isinstance(value, int | float | complex) and not too_large else None


def assert_same(text):
    try:
        ours = evaluate(text)
    except ValueError:
        ours = None
    theirs = python_value(text)
    assert ours == theirs and type(ours) is type(theirs), (text, ours, theirs)


def test_every_short_text_is_read_as_python_reads_it():
    for length in range(5):
        for symbols in itertools.product("02+-*/().", repeat=length):
            assert_same("".join(symbols))


def test_longer_texts_are_read_as_python_reads_them():
    draw = random.Random(0)
    pieces = ["0", "1", "2", "3", "7", "12", "1.5", "+", "-", "*", "/", "//", "**", "(", ")", " "]
    for _ in range(4000):
        text = "".join(draw.choices(pieces, k=draw.randint(5, 11)))
        if text.count("**") < 2:  # towers take Python for ever
            assert_same(text)


def test_well_formed_texts_are_read_as_python_reads_them():
    draw = random.Random(1)
    for _ in range(500):
        text = draw.choice("1234")
        for _ in range(draw.randint(1, 5)):
            sign = draw.choice(["+", "-", "*", "/", "//", " - ", "*-"])
            text = draw.choice(
                [f"{text}{sign}{draw.randint(0, 9)}", f"({text}){sign}2", f"-{text}"]
            )
        assert_same(text)


@pytest.mark.parametrize(
    "text, value",
    [
        ("-2**2", -4),
        ("2**-1", 0.5),
        ("2**3**2", 512),
        ("7//2*2", 6),
        ("8/4/2", 1.0),
        ("(1\n+2)", 3),
        ("--3", 3),
        ("00", 0),
        ("02.5", 2.5),
    ],
)
def test_values_by_hand(text, value):
    assert evaluate(text) == value == python_value(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1\n+2",
        "012",
        "1 2",
        "2(3)",
        "()",
        "1/0",
        "1//0",
        "0**-1",
        "2e5",
        "a",
        "1_0",
        "2×3",
        "9**9**9**9",
        "9**99999999",
        "1.5**99999",
        "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1),
        "2" + "**1" * 200,
        "9" * MAX_BITS,
    ],
)
def test_what_has_no_value_is_refused_at_once(text):
    with pytest.raises(ValueError):
        evaluate(text)
