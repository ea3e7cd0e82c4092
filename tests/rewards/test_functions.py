import json
import time
from pathlib import Path

import pytest

from rljax.rewards.answers import ends_with_one_tag, last_boxed, last_tagged
from rljax.rewards.functions import (
    REWARDS,
    exact_match,
    find_reward,
    format_reward,
    length,
    math,
    reasoning_gym,
)
from rljax.tasks.reasoning_gym import ReasoningGym

SHARED = Path(__file__).parents[2].parent / "shared" / "golden"
GOLDEN = SHARED if SHARED.is_dir() else Path(__file__).parents[1] / "golden"

MAZE = "}{" * 50 + "{" * 50
NONSENSE = ["", " ", "1" * 10_000, "\\boxed{" + "1" * 10_000 + "}", MAZE, "\\boxed{" + MAZE]
NONSENSE += ["<answer>" * 2000, "<answer></answer>", "\\boxed{}", "\\boxed", "</answer><answer>"]
NONSENSE += ["\\boxed{9^{9^9}}", "\\boxed{9**9**9}", "\\boxed{2^{99999999}}", "\\boxed{99999999!}"]


def golden(name):
    return {case["name"]: case for case in json.loads((GOLDEN / name).read_text())["cases"]}


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("name", ["reasoning_gym", "math", "exact_match", "format"])
def test_nonsense_scores_zero_quickly(name, text):
    reference = ReasoningGym("chain_sum", seed=0, size=1)[0].reference
    gold = reference if name == "reasoning_gym" else "5"
    math("", "\\boxed{1}", "1")  # the import is not the verdict's time
    start = time.perf_counter()
    assert REWARDS[name]("", text, gold) == 0.0
    assert time.perf_counter() - start < 0.5


def test_gold_against_itself_is_one():
    for gold in ["5", "-3.25", "\\frac{1}{2}", "(x+1)^2", "2\\sqrt{2}", "(1, 2)", "yes"]:
        assert math("", f"so \\boxed{{{gold}}}", gold) == 1.0, gold
        assert exact_match("", f" {gold}\n", gold) == 1.0
    for problem in ReasoningGym(["chain_sum", "countdown", "gcd"], seed=3, size=30):
        answer = f"<answer>{problem.reference['answer']}</answer>"
        assert reasoning_gym("", answer, problem.reference) == 1.0


@pytest.mark.parametrize("answer", ["\\boxed{4}", "\\boxed{5}", "\\boxed 4", "\\boxed{4"])
def test_a_boxed_verdict_does_not_depend_on_the_text_before(answer):
    alone = math("", answer, "4")
    for before in ["x", "\\boxed{7} ", "\\boxed{4} and ", "}{ $", "9^{9^9} ", "1" * 9000]:
        assert math("", before + answer, "4") == alone


def test_math_needs_a_box_unless_told_otherwise():
    assert math("", "the answer is 7", "7") == 0.0
    assert math("", "the answer is 7", "7", require_boxed=False) == 1.0
    assert math("", "it is 7, \\boxed{7", "7", require_boxed=False) == 0.0
    assert math("", "\\boxed{7}", {"answer": 7}) == 1.0
    with pytest.raises(
        ValueError, match="gold answer must be text or a number, got {'answer': None}"
    ):
        math("", "\\boxed{7}", {"answer": None})


def test_golden_math_verify_verdicts():
    case = golden("verifiers.json")["math_strings_A"]
    differ = []
    pairs = zip(case["inputs"]["pairs"], case["outputs"]["scores"], strict=True)
    for (text, gold), scores in pairs:
        if math("", text, gold, require_boxed=False) != scores["math_verify"]:
            differ.append(text)
    # math-verify 0.9.0 itself answers True here with latex2sympy2-extended 1.11.0.
    assert differ in ([], ["\\boxed{10\\%}"])


def test_golden_boxed_verdicts_agree_with_two_stacks_at_once():
    """Where rllm and verl agree on a properly braced box, so do we."""
    case = golden("verifiers.json")["math_strings_A"]
    pairs = zip(case["inputs"]["pairs"], case["outputs"]["scores"], strict=True)
    for (text, gold), scores in pairs:
        if scores["rllm"] == scores["verl_math"] and "\\boxed" in text:
            assert math("", text, gold) == scores["rllm"], text


def test_golden_extraction():
    case = golden("reasoning-gym.json")["extract_A"]
    for text, expected in zip(case["inputs"]["texts"], case["outputs"]["extracted"], strict=True):
        assert last_tagged(text) == expected, text


def test_the_package_extracts_the_same():
    from reasoning_gym.utils import extract_answer

    pieces = ["<answer>", "</answer>", "7", " ", "\n", "<ANSWER>"]
    texts = ["".join(pieces[int(d)] for d in f"{n:05o}" if int(d) < 6) for n in range(0, 8**5, 7)]
    for text in texts:
        assert last_tagged(text) == extract_answer(text), text


def test_partial_credit_is_binarised():
    reference = ReasoningGym("spell_backward", seed=3, size=1)[0].reference
    answer = reference["answer"]
    wrong = f"<answer>{answer[:-1]}#</answer>"
    assert reasoning_gym("", wrong, reference) == 0.0
    assert 0 < reasoning_gym("", wrong, reference, binary=False) < 1
    two = f"<answer>{answer}</answer> no: <answer>x</answer>"
    assert reasoning_gym("", two, reference) == 0.0
    assert reasoning_gym("", f"<a>{answer}</a>", reference, tag="a") == 1.0
    assert reasoning_gym("", answer, reference) == 0.0


def test_a_task_that_gives_none_credit_gives_none_here():
    reference = ReasoningGym("countdown", seed=3, size=1)[0].reference
    assert reasoning_gym("", "no tag", reference, binary=False) == 0.0


@pytest.mark.parametrize(
    "text, options, value",
    [
        (" Paris\n", {}, 1.0),
        ("paris", {}, 0.0),
        ("paris", {"ignore_case": True}, 1.0),
        ("so <answer> Paris </answer>", {"tag": "answer"}, 1.0),
        ("Paris", {"tag": "answer"}, 0.0),
    ],
)
def test_exact_match(text, options, value):
    assert exact_match("", text, "Paris", **options) == value
    assert exact_match("", text, {"answer": "Paris"}, **options) == value


@pytest.mark.parametrize(
    "text, value",
    [
        ("steps <answer>5</answer>", 1.0),
        ("<answer>5</answer> \n", 1.0),
        ("<answer>5</answer>.", 0.0),
        ("<answer>5", 0.0),
        ("5</answer>", 0.0),
        ("<answer> </answer>", 0.0),
        ("<answer>4</answer><answer>5</answer>", 0.0),
        ("</answer>5<answer>", 0.0),
        ("<answer><answer>5</answer>", 0.0),
    ],
)
def test_format(text, value):
    assert format_reward("", text, None) == value
    assert ends_with_one_tag(text.replace("answer", "a"), "a") == bool(value)


@pytest.mark.parametrize(
    "tokens, value", [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (500, -1.0)]
)
def test_length_penalty_by_hand(tokens, value):
    penalty = length("", "", None, completion_tokens=tokens, max_tokens=100, cache_tokens=20)
    assert penalty == pytest.approx(value)


def test_length_needs_a_ramp_inside_the_limit():
    with pytest.raises(ValueError, match="0 < cache_tokens <= max_tokens"):
        length("", "", None, completion_tokens=1, max_tokens=10, cache_tokens=11)


@pytest.mark.parametrize(
    "text, box",
    [
        ("\\boxed{1} \\boxed{a{b}c} d", "\\boxed{a{b}c}"),
        ("\\boxed 7 x", "\\boxed 7"),
        ("\\boxed{4} \\boxed{5", None),
        ("none", None),
    ],
)
def test_last_boxed(text, box):
    assert last_boxed(text) == box


def test_user_rewards_by_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def ten(p, c, r, *, by=1): return 10 * by\ndef bad(p, c): return 0\n")
    assert find_reward(f"{path}:ten")("", "", None, by=2) == 20
    with pytest.raises(ValueError, match="Unknown function of .* 'tne'; known: 'bad', 'ten'"):
        find_reward(f"{path}:tne")
    with pytest.raises(ValueError, match=r"must take \(prompt, completion, reference\)"):
        find_reward(f"{path}:bad")
    with pytest.raises(ValueError, match="No reward file 'nowhere.py'"):
        find_reward("nowhere.py:ten")
    with pytest.raises(ValueError, match="Unknown reward 'maths'; known: .*Did you mean 'math'"):
        find_reward("maths")
