"""Rewards of other stacks: what the golden file does not have (its verdicts: tests/golden)."""

import pytest

from rljax.rewards.functions import find_reward
from rljax.rewards.stacks.normal_forms import minerva, prm800k, squad
from rljax.rewards.stacks.table import RULES


def score(name, text, gold):
    return find_reward(name)("", text, gold)


@pytest.mark.parametrize(
    "name, text, gold, value",
    [
        ("gsm8k_open_instruct", "1,234 then +5", "5", 0.0),
        ("gsm8k_open_instruct", "12,345 clips", "12345", 1.0),
        ("gsm8k_open_instruct", "12.50", "12.5", 0.0),
        ("gsm8k_open_instruct", "007", "7", 0.0),
        ("gsm8k_open_instruct", "72", "so <<1+1=2>>\n#### 72", 1.0),
        ("gsm8k_verl_strict", "#### 5\n#### -1,005 ", "-1005", 1.0),
        ("gsm8k_verl_strict", "#### 5" + " " * 300, "5", 0.0),
        ("gsm8k_verl_flexible", "it is 7.", "7", 0.0),
        ("gsm8k_verl_flexible", "it is 7 . ", "7", 1.0),
        ("math_open_instruct", "\\boxed{x^2-1}", "(x-1)(x+1)", 1.0),
        ("math_open_instruct", "\\boxed{yes}", "Yes", 0.0),
        ("math_verl", "\\fbox{\\dfrac12}", "\\frac{1}{2}", 1.0),
        ("math_verl", "\\boxed{(x+1)^2}", "x^2+2x+1", 0.0),
        ("math_dapo", "Answer: $\\frac12$", "\\frac{1}{2}", 1.0),
        ("math_dapo", "Answer: 5\nanswer: 6", "5", -1.0),
        ("math_dapo", "answer: 1,000", "1000", 1.0),
        ("math_dapo", "Answer: 5" + " " * 300, "5", -1.0),
        ("math_dapo_strict_box", "\\boxed{0.5}", "0.5", 1.0),
        ("math_dapo_strict_box", "\\boxed{5}" + " " * 100, "5", -1.0),
        ("math_deepscaler", "\\boxed{2/4}", "1/2", 0.0),
        ("math_deepscaler", "\\boxed{\\frac{1}{2}}", "1/2", 1.0),
        ("math_deepscaler", "\\boxed{(1, \\sqrt{4})}", "(1,2)", 0.0),
        ("math_deepscaler", "\\boxed{(1, 3x+x)}", "(1,4x)", 1.0),
        ("math_deepscaler", "\\boxed{[1,2]}", "(1,2)", 0.0),
        ("math_deepscaler", "\\boxed{5 \\text{ cm}}", "5", 1.0),
        ("math_deepscaler", "\\boxed{}", "5", 0.0),
        ("math_deepscaler_think", "<think>\\boxed{4}</think> \\boxed{5}", "5", 1.0),
        ("math_deepscaler_think", "\\boxed{5}", "5", 0.0),
        ("flan_open_instruct", "The answer is: a cat", "Cat!", 1.0),
        ("string_match_open_instruct", "<answer>x</answer><answer>The X</answer>", "x", 1.0),
        ("puzzle_open_instruct", "<think>y</think> x", "x", 1.0),
        ("f1_open_instruct", "", "x", 0.0),
        ("f1_open_instruct", "red red car", "red car", 0.8),
    ],
)
def test_verdicts_by_hand(name, text, gold, value):
    assert score(name, text, gold) == pytest.approx(value)


def test_each_gold_of_a_list_is_right():
    assert score("math_verl", "\\boxed{3}", ["2", "3"]) == 1.0
    assert score("math_dapo", "answer: 4", ["2", "3"]) == -1.0


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "text",
    ["", "\\boxed{", "\\boxed{9^{9^9}}", "}{" * 500, "$" * 999, "\\boxed{1" + "0" * 9999 + "}"],
)
def test_nonsense_is_wrong(name, text):
    assert score(name, text, "5") == RULES[name].wrong


def test_normal_forms():
    assert minerva("x = $\\frac12$ square units") == "\\frac{1}{2}"
    assert minerva("\\text{Yes}") == "Yes" and minerva("1,000") == "1000"
    assert prm800k("5 meters") == "5" and prm800k("2 million") == "2*10^6"
    assert prm800k("90^\\circ") == "90" and prm800k("- 3.00") == "-3"
    assert squad("The  cat, an owl!") == "cat owl"
