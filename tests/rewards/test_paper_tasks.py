"""Text rewards of d1 and SPG: branches that the golden file does not have."""

import json

import pytest

from rljax.rewards.compose import Composition
from rljax.rewards.countdown import boxed_expression
from rljax.rewards.functions import find_reward
from rljax.rewards.math_strings import normal_form
from rljax.rewards.sudoku import Cells, cell_accuracy, find_grid

COUNTDOWN = {"numbers": [2, 3, 4], "target": 5}
SUDOKU = {"puzzle": "3014002020004130", "solution": "3214142323414132"}


def score(name, text, reference=None, **options):
    return find_reward(name)("", text, reference, **options)


@pytest.mark.parametrize(
    "answer, as_code, as_paper",
    [
        ("2*4-3", 1.0, 1.0),
        ("2+3+4", 0.1, 0.1),
        ("2*4-3=5", 0.1, 0.0),  # the numbers 2 4 3 5
        ("2*4", 0.1, 0.0),
        ("nothing", 0.1, 0.0),
        ("(2)(4)-3", 0.1, 0.1),
        ("9" * 5000, 0.1, 0.0),
    ],
)
def test_countdown_partial_reward(answer, as_code, as_paper):
    text = f"<answer>{answer}</answer>"
    assert score("countdown", text, COUNTDOWN) == as_code
    assert score("countdown", text, json.dumps(COUNTDOWN), partial="numbers") == as_paper
    assert score("countdown", text, COUNTDOWN, partial_reward=0.0) == float(as_code == 1.0)


def test_countdown_accepts_a_tiny_error_of_floats_but_no_near_miss():
    thirds = {"numbers": [8, 3, 8, 3], "target": 24}
    assert score("countdown", "<answer>8/(3-8/3)</answer>", thirds) == 1.0
    near = {"numbers": [1, 99999], "target": 0}
    assert score("countdown", "<answer>1/99999</answer>", near) == 0.1
    power = {"numbers": [2, 4, 3], "target": 13}
    assert score("countdown", "<answer>2**4-3</answer>", power) == 1.0


def test_countdown_evaluation_reads_the_answer_pair_only_if_asked_to():
    text = "I say <answer>2*4-3</answer>"
    assert score("countdown_boxed", text, COUNTDOWN) == 0.0
    assert score("countdown_boxed", text, COUNTDOWN, unboxed="answer") == 1.0
    assert boxed_expression("8 \\div 2 = 4.0") == "8 / 2"
    assert boxed_expression("\\boxed{2+(3} \\boxed{1") == "\\boxed{2+(3} \\boxed{1"


@pytest.mark.parametrize(
    "name, options", [("countdown", {"partial": "x"}), ("countdown_boxed", {"unboxed": "x"})]
)
def test_other_options_are_refused(name, options):
    with pytest.raises(ValueError, match="must be 'answer' or|must be 'text' or"):
        score(name, "<answer>1</answer>", COUNTDOWN, **options)
    with pytest.raises(ValueError, match="taxed of the reward 'xml_count'"):
        score("xml_count", "", taxed="x")


@pytest.mark.parametrize("name", ["countdown", "countdown_boxed", "sudoku", "sudoku_cells"])
@pytest.mark.parametrize("reference", ["5", None, {"target": 5}, "not json"])
def test_other_references_are_refused(name, reference):
    with pytest.raises(ValueError, match=f"The reward '{name}' needs a reference with"):
        score(name, "<answer>1</answer>", reference)
    with pytest.raises(ValueError, match="solution .* must be a text of 16 digits"):
        score("sudoku", "", SUDOKU | {"solution": "321"})


def test_sudoku_trains_on_digits_of_the_answer_and_evaluates_more():
    assert score("sudoku", "<answer>" + SUDOKU["solution"] + "</answer>", json.dumps(SUDOKU)) == 1.0
    assert score("sudoku", "the grid " + SUDOKU["solution"], SUDOKU) == 0.0
    assert score("sudoku_cells", "the grid " + SUDOKU["solution"], SUDOKU) == 1.0
    full = {"puzzle": SUDOKU["solution"], "solution": SUDOKU["solution"]}
    assert score("sudoku", "<answer>1</answer>", full) == 0.0  # nothing to fill in


def test_grids_are_found_in_the_order_of_the_papers():
    assert find_grid("<answer>x ```12 34\n``` 5</answer>") == "1234"
    assert find_grid("<answer>12<|endoftext|>34</answer>") == "12"
    assert find_grid("</answer> 34 ") == "34"
    assert find_grid("<answer>" + "1" * 16) == "1" * 16
    assert find_grid("<answer>1234") == ""


def test_cells_are_averaged_over_all_puzzles():
    assert cell_accuracy([Cells(1, 2, ""), Cells(6, 6, "")]) == 7 / 8
    assert cell_accuracy([]) == 0.0


def test_another_valid_grid_is_valid_though_it_is_not_the_stored_one():
    open_puzzle = {"puzzle": "0" * 16, "solution": SUDOKU["solution"]}
    other = "1234341221434321"
    assert score("sudoku_valid_grid", f"<answer>{other}</answer>", open_puzzle) == 1.0
    assert score("sudoku_cells", f"<answer>{other}</answer>", open_puzzle) < 1.0
    assert score("sudoku_valid_grid", f"<answer>{other}</answer>", SUDOKU) == 0.0
    for broken in ("1234123412341234", "1234341221434312", "1234", "12343412214343215"):
        assert score("sudoku_valid_grid", f"<answer>{broken}</answer>", open_puzzle) == 0.0


def test_the_two_taxes_on_length():
    text = "<reasoning>\na\n</reasoning>\n<answer>\n42\n</answer>\nmore"
    tail = 0.5 - 0.001 * len("more") - 0.001 * len("more")
    assert score("xml_count", text, taxed="tail") == pytest.approx(tail)
    answer = 0.5 - 0.001 * len("42\n</answer>\nmore") - 0.001 * len("more")
    assert score("xml_count", text, taxed="answer") == pytest.approx(answer)
    assert score("xml_count", text, per_character=0.0) == 0.5
    assert score("xml_count", text + "\n</answer>", per_character=0.0) == 0.375


def test_formats_and_answers_by_hand():
    strict = "<reasoning>\na\n</reasoning>\n<answer>\n42\n</answer>\n"
    assert score("xml_strict_format", strict) == 0.5
    assert score("xml_strict_format", strict.replace("a", "a\nb")) == 0.0
    assert score("xml_soft_format", "<reasoning>a</reasoning> \n <answer>4</answer>x") == 0.5
    assert score("xml_soft_format", " <reasoning>a</reasoning><answer>4</answer>") == 0.0
    assert score("tagged_correctness", strict, "40 + 2\n#### 42") == 2.0
    assert score("tagged_correctness", strict, 42) == 2.0
    assert score("integer_answer", "<answer>4 2</answer>") == 0.0
    names = ("xml_count", "xml_soft_format", "xml_strict_format", "integer_answer")
    total = Composition([*names, "tagged_correctness"])
    assert total.labels[0] == "xml_count"


@pytest.mark.parametrize(
    "text, intended, released",
    [
        ("<answer>\\boxed{1}</answer>", 1.0, 0.75),
        ("\\boxed{1} <answer>1</answer>", 0.75, 0.75),
        ("\\boxed{1}", 0.5, 0.25),
        ("1", 0.25, 0.25),
    ],
)
def test_format_of_math(text, intended, released):
    assert score("math_tags_format", text) == intended
    assert score("math_tags_format", text, reference_bug=True) == released


@pytest.mark.parametrize(
    "text, normal",
    [
        ("\\dfrac12", "\\frac{1}{2}"),
        ("\\frac1{72}", "\\frac{1}{72}"),
        ("\\tfrac{a}{b}", "\\frac{a}{b}"),
        ("1/2", "\\frac{1}{2}"),
        ("-3/4", "\\frac{-3}{4}"),
        ("a/b", "a/b"),
        ("0.5", "\\frac{1}{2}"),
        (".5", "\\frac{1}{2}"),
        ("0.50", "0.50"),
        ("x = 5", "5"),
        ("xyz = 5", "xyz=5"),
        ("\\sqrt3", "\\sqrt{3}"),
        ("\\sqrt{3}", "\\sqrt{3}"),
        ("\\left( 1, .5 \\right)", "(1,0.5)"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90"),
        ("\\$5", "5"),
        ("5\\%", "5"),
        ("5\\text{ cm}", "5"),
        ("1\\!000", "1000"),
    ],
)
def test_normal_form(text, normal):
    assert normal_form(text) == normal


def test_math_compares_the_last_box_or_the_whole_text():
    gold = "so \\boxed{\\frac{1}{2}}"
    assert score("math_string", "\\boxed{3} then \\boxed{1/2}", gold) == 2.0
    assert score("math_string", "\\boxed{1/2} then \\boxed{3}", gold) == 0.0
    assert score("math_string", "1/2", gold) == 2.0
    assert score("math_string", "it is 1/2", {"answer": "0.5"}) == 0.0
