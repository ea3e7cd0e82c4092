"""The plain-Python verdicts, by hand."""

from fractions import Fraction

import pytest

from rljax.tasks.symbols import make_task
from rljax.tasks.symbols.countdown import evaluate

COUNTDOWN = {"numbers": [2, 3, 4], "target": 5, "allowed": [True] * 6, "partial": 0.1}


@pytest.mark.parametrize(
    "text, reward",
    [
        ("2*4-3", 1.0),
        ("(4*2)-3", 1.0),
        ("((2))*4-3", 1.0),
        ("4/2+3", 1.0),
        ("4+3-2", 1.0),
        ("3-(2-4)", 1.0),
        ("2+3+4", 0.1),  # another value
        ("4/(2-3)", 0.1),  # -4
        ("3/4*2", 0.1),  # no whole number
        ("2*4-3=5", 0.0),
        ("2*4", 0.0),
        ("2*4-3*1", 0.0),
        ("2*4-3+2", 0.0),
        ("24-3", 0.0),
        ("-3+2*4", 0.0),  # a sign is no operator
        ("+2*4-3", 0.0),
        ("02*4-3", 0.0),
        ("2**4-3", 0.0),
        ("(2*4-3", 0.0),
        ("2*4-3)", 0.0),
        ("2(4)-3", 0.0),
        ("2*4-()3", 0.0),
        ("2*4-3_", 0.0),
        ("", 0.0),
    ],
)
def test_countdown(text, reward):
    verdict = make_task("countdown3").verify_text(COUNTDOWN, text)
    assert verdict.reward == reward
    assert verdict.correct == (reward == 1.0)
    assert verdict.checks == {"well_used": reward > 0}


def test_countdown_forbids_what_its_level_lacks_and_divides_exactly():
    task = make_task("countdown3")
    without = COUNTDOWN | {"allowed": [True, True, True, False, False, False]}
    assert task.verify_text(without, "2*4-3").correct
    assert not task.verify_text(without, "4/2+3").checks["well_used"]
    assert not task.verify_text(without, "(4*2)-3").checks["well_used"]
    zero = COUNTDOWN | {"numbers": [3, 3, 4]}
    assert task.verify_text(zero, "4/(3-3)") == (0.1, False, {"well_used": True})
    thirds = {"numbers": [8, 3, 8, 3], "target": 24, "allowed": [True] * 6, "partial": 0.0}
    assert make_task("countdown4").verify_text(thirds, "8/(3-8/3)").correct
    long = {"numbers": [12, 3, 1], "target": 9, "allowed": [True] * 6, "partial": 0.0}
    assert task.verify_text(long, "12-3*1").correct and not task.verify_text(long, "1-3*12").correct


def test_expressions_have_precedence_and_associate_to_the_left():
    for text, value in (("2-3-4", -5), ("8/4/2", 1), ("2+3*4", 14), ("1/3", Fraction(1, 3))):
        assert evaluate(list(text)) == value
    assert evaluate(list("1/(2-2)")) is None
    for text in ("", "1+", "(1", "1)", "*1", "1 2"):
        with pytest.raises(ValueError):
            evaluate(list(text))


PUZZLE = {
    "puzzle": [*map(int, "3014002020004130")],
    "solution": [*map(int, "3214142323414132")],
}


@pytest.mark.parametrize(
    "text, reward, correct",
    [
        ("3214142323414132", 1.0, True),
        ("4214142323414132", 1.0, False),  # all empty cells, but a given is gone
        ("3114142323414132", 0.875, False),
        ("1111111111111111", 0.25, False),
        ("3014002020004130", 0.0, False),  # no 0 in an answer
        ("321414232341413", 0.0, False),
        ("32141423234141321", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_sudoku(text, reward, correct):
    assert make_task("sudoku4").verify_text(PUZZLE, text) == (reward, correct, {})


CHAIN = {"line": [5, 2, 0], "answer": 9, "line_credit": 0.25}  # "30", then "7"


@pytest.mark.parametrize(
    "text, reward, line_right",
    [
        ("30>7", 1.0, True),
        (">7", 1.0, False),
        ("31>7", 1.0, False),
        ("300>7", 1.0, False),
        ("30>8", 0.25, True),
        ("31>8", 0.0, False),
        ("30>", 0.0, False),
        ("307", 0.0, False),
        ("30>77", 0.0, False),
        ("3>0>7", 0.0, False),
        ("30>a", 0.0, False),
        ("30+>7", 0.0, False),
    ],
)
def test_chain(text, reward, line_right):
    verdict = make_task("modchain").verify_text(CHAIN, text)
    assert verdict == (reward, reward == 1.0, {"line_right": line_right})


@pytest.mark.parametrize("name", ["sort", "edit"])
def test_exact_answers(name):
    facts, task = {"answer": [3, 4, 4, 0, 0]}, make_task(name)
    assert task.verify_text(facts, "122") == (1.0, True, {})
    for text in ("121", "12", "1222", "", "122_", "1 22", "122A"):
        assert task.verify_text(facts, text) == (0.0, False, {}), text
