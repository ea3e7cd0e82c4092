"""The reward "math": verdicts on gold answers as data sets write them, beside bare math-verify."""

import random
import time
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from rljax.rewards.mathematics.golds import read_gold
from rljax.rewards.mathematics.reward import math

GOLDS = Path(__file__).parent / "golds.txt"


class Case(NamedTuple):
    gold: str
    right: list[str]
    wrong: list[str]


def cases() -> list[Case]:
    lines = [line for line in GOLDS.read_text().splitlines() if line and line[:2] != "# "]
    parted = [line.replace("  !=  ", "  ==  ").split("  ==  ") for line in lines]
    return [
        Case(gold.replace("<br>", "\n"), right.split(" ;; "), wrong.split(" ;; "))
        for gold, right, wrong in parted
    ]


CASES = cases()
# Golds that can stand in a box as they are.
ALONE = [
    case.gold for case in CASES if not set(case.gold) & set("#\n") and "boxed" not in case.gold
]


def boxed(answer, gold):
    return math("", f"So the answer is $\\boxed{{{answer}}}$.", gold)


@pytest.mark.parametrize("case", CASES, ids=[case.gold for case in CASES])
def test_values_count_and_neighbours_are_wrong(case):
    assert [a for a in case.right if boxed(a, case.gold) != 1.0] == []
    assert [a for a in case.wrong if boxed(a, case.gold) != 0.0] == []


def test_there_are_many_of_them():
    assert len(CASES) > 150 and sum(len(c.right) + len(c.wrong) for c in CASES) > 700


def test_gold_against_itself_is_one_as_for_bare_math_verify():
    assert [gold for gold in ALONE if boxed(gold, gold) != 1.0] == []


@pytest.mark.parametrize(
    "gold",
    [
        *["x \\in (0, 1]", "\\frac{3}{4} \\text{ of a mile}", "\\text{Evelyn}", "15\\mbox{ cm}^2"],
        *["p - q", "\\cot x", "137 \\frac{1}{2}", "\\$32,\\!348", "10,\\!080", "11\\sqrt2"],
        *["6+9i", "16,16", "\\angle ABC", "(6,31,-1)", "5 \\text{ and } 7", "\\text{east}"],
        *["\\begin{pmatrix} -1/3 \\\\ 2/3 \\\\ 5/3 \\end{pmatrix}", "1 \\pm \\sqrt{19}", "1:3"],
        *["\\left( 3, \\frac{\\pi}{2} \\right)", "\\{1\\pm\\sqrt{5},-2\\}", "-2,1", "4210_{5}"],
        *["\\text{No real solutions}", "f(x)=x^2", "n \\equiv 2 \\pmod{5}", "\\overline{AB}"],
        *["\\begin{cases}1\\\\2\\end{cases}", "2 hours 30 minutes", "2023-01-05", "5 \\frac12 in."],
    ],
)
def test_golds_of_more_kinds_against_themselves(gold):
    assert boxed(gold, gold) == 1.0
    assert boxed("17/19", gold) == 0.0 and boxed("Zanzibar", gold) == 0.0


def spellings(value: Fraction, rng: random.Random) -> list[str]:
    """Ways to write a number, all of which are read."""
    whole, rest = divmod(abs(value), 1)
    sign = "-" if value < 0 else ""
    ways = [f"{value.numerator}/{value.denominator}", str(value)]
    ways += [f"\\frac{{{value.numerator}}}{{{value.denominator}}}"]
    if rest == 0:
        ways = [str(value), f"{int(value)}.0", f"{int(value):,}", f"{sign}{int(whole):_}"]
        ways += [f"{int(value):,}".replace(",", mark) for mark in ("\\,", "{,}", " ", "\u2009")]
    elif whole:
        ways += [
            f"{sign}{whole} {rest}",
            f"{sign}{whole}\\frac{{{rest.numerator}}}{{{rest.denominator}}}",
        ]
    if value.denominator in (1, 2, 4, 5, 8):
        ways.append(f"{float(value):.3f}")
    around = (
        "{}",
        "${}$",
        "\\({}\\)",
        "x = {}",
        "{}.",
        "{} cm",
        "{}\\text{{ centimeters}}",
        " {} ",
    )
    return [rng.choice(around).format(way) for way in ways]


def test_numbers_in_all_spellings_are_one_number_and_no_other():
    rng = random.Random(0)
    for _ in range(60):
        bottom = rng.choice((1, 1, 2, 3, 4, 5, 8, 7))
        value = Fraction(rng.randint(-(10 ** rng.randint(1, 9)), 10 ** rng.randint(1, 9)), bottom)
        for gold in spellings(value, rng):
            for answer in spellings(value, rng):
                assert boxed(answer, gold) == 1.0, (gold, answer)
            for other in (value + 1, -value, value * 10, value + Fraction(1, 1000)):
                answer = rng.choice(spellings(other, rng))
                assert boxed(answer, gold) == float(other == value), (gold, answer)


@pytest.mark.parametrize(
    "text, value",
    [
        ("\\boxed 5", 1.0),
        ("\\boxed5", 1.0),
        ("$\\boxed 5$", 1.0),
        ("\\fbox{5}", 1.0),
        ("\\boxed {5}", 1.0),
        ("\\boxed{{5}}", 1.0),
        ("\\boxed{\\boxed{5}}", 1.0),
        ("\\boxed{\n5\n}", 1.0),
        ("$$\\boxed{5}$$", 1.0),
        ("\\[\\boxed{5}\\]", 1.0),
        ("**\\boxed{5}**", 1.0),
        ("\\boxed{$5$}", 1.0),
        ("\\boxed{\\$5}", 1.0),
        ("\\boxed{\\text{5}}", 1.0),
        ("\\boxed{\\mathbf{5}}", 1.0),
        ("\\boxed{x = 5}", 1.0),
        ("\\boxed{x=2+3=5}", 1.0),
        ("\\boxed{\\text{Answer: }5}", 1.0),
        ("\\boxed{The final answer is 5.}", 1.0),
        ("\\boxed{5 \\text{ (five)}}", 1.0),
        ("\\boxed{4} or rather \\boxed{5}", 1.0),
        ("\\boxed{5} or rather \\boxed{4}", 0.0),
        ("\\boxed{5", 0.0),
        ("\\boxed{5\\}", 0.0),
        ("\\boxed{\\text{5}", 0.0),
        ("\\boxed{5} \\boxed{", 0.0),
        ("\\boxed{}", 0.0),
        ("\\boxed{5}. Put it in \\boxed{}: \\boxed{ }", 1.0),
        ("\\boxed{5, 6}", 0.0),
        ("5", 0.0),
        ("Final Answer: 5", 0.0),
        ("\\boxedx{5}", 0.0),
    ],
)
def test_boxes_as_models_write_them(text, value):
    assert math("", text, "5") == value


def test_a_list_may_stand_in_as_many_boxes():
    assert math("", "\\boxed{1} and \\boxed{2}", "1, 2") == 1.0
    assert math("", "first \\boxed{3}, then \\boxed{2}, \\boxed{1}", "\\pm 1, 2") == 0.0
    assert math("", "\\boxed{9} no: \\boxed{2}, \\boxed{1}", "1, 2") == 1.0
    assert math("", "\\boxed{1}" + " " * 100 + "\\boxed{2}", "1, 2") == 0.0
    assert math("", "\\boxed{A} \\boxed{C}", "A, C") == 1.0
    assert math("", "\\boxed{1}, \\boxed{2}", "2") == 1.0


def test_sets_keep_their_braces():
    assert boxed("\\{1, 2\\}", "\\{1, 2\\}") == 1.0
    assert boxed("\\left\\{1, 2\\right\\}", "2, 1") == 1.0


def test_alternatives_are_each_right():
    assert [boxed(a, ["1/2", "yes"]) for a in ("0.5", "Yes", "2")] == [1.0, 1.0, 0.0]


def test_without_a_box_only_where_asked():
    for gold in ("7", "x = 7", "7.0"):
        assert math("", "the answer is 7", gold) == 0.0
        assert math("", "the answer is 7", gold, require_boxed=False) == 1.0
        assert math("", "the answer is 8", gold, require_boxed=False) == 0.0
    assert math("", "it is 7, \\boxed{7", "7", require_boxed=False) == 0.0


BOMBS = [
    *["9^{9^9}", "9**9**9", "2^{99999999}", "99999999!", "(10^{999})^{999}", "9^9^9^9"],
    *["\\frac{" * 90 + "1" + "}{2}" * 90, "(" * 200, "(" * 200 + "1" + ")" * 200],
    *["\\sqrt{" * 80, "(" * 12 + "x" + ")" * 12, "1+" * 240 + "1", "x^2" * 100, "{" * 400],
    *["\\binom{999999}{499999}", "\\sum_{n=1}^{99999} n!", "\\prod_{n=1}^{500} n", "1" * 499],
    *["1 000" * 90, "1,000" * 90, "\\text{" * 70, "$" * 400, "a b " * 120, "1/" * 240],
    *["\\int_0^{1} x^{x^x} dx", "\\lim_{x \\to 0} x^x", "１" * 300, "\\pm " * 50 + "1"],
    *["\\begin{pmatrix}" + "1&" * 150 + "1\\end{pmatrix}", "0.\\overline{3}" * 30, "x=" * 200],
    *["\u0000", "\ud800", "٣" * 100, "\\" * 499, "}" * 100, "e^{e^{e^{e^9}}}", "!" * 100],
    *["5!" * 50, "-" * 300 + "1", "|" * 60, "x<" * 100 + "1", "\\left(" * 40, "\\cup " * 80],
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
@pytest.mark.parametrize("gold", ["5", "\\sqrt{2}", "A"])
def test_bombs_score_zero_and_cost_little(bomb, gold):
    boxed("\\sqrt{3}", "\\sqrt{2}")  # the import is not the verdict's time
    start = time.process_time()
    assert boxed(bomb, gold) == 0.0
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "gold, answer",
    [("2^{100}", "\\log_2 3"), ("\\log_2 3", "2^{100}"), ("2.5 billion", "\\log_3 2")],
)
def test_numbers_that_are_far_apart_need_no_algebra(gold, answer):
    start = time.process_time()
    assert boxed(answer, gold) == 0.0
    assert time.process_time() - start < 10


def test_text_around_the_box_does_not_count_and_costs_little():
    start = time.process_time()
    assert math("", "\\boxed{" * 20_000 + "\\boxed{7}", "7") == 1.0
    assert math("", "\\boxed{1}" * 20_000 + "\\boxed{7}", "6, 7") == 0.0
    assert math("", "{" * 100_000 + "\\boxed" * 10_000, "7") == 0.0
    assert time.process_time() - start < 10


def test_the_same_gold_is_read_once():
    assert read_gold("\\sqrt{2}").alternatives[0] is read_gold("\\sqrt{2}").alternatives[0]
