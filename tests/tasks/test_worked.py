import re

import pytest
import reasoning_gym

from rljax.rewards.answers import last_tagged
from rljax.tasks.reasoning_gym import ReasoningGym
from rljax.tasks.worked import WORKED, worked_solution

PARAMETERS = {"count_primes": {"max_n": 100}, "gcd": {"max_numbers": 3}, "lcm": {"max_numbers": 3}}


@pytest.mark.parametrize("task", sorted(WORKED))
def test_the_final_answer_scores_one_by_the_package(task):
    data = reasoning_gym.create_dataset(task, seed=7, size=200, **PARAMETERS.get(task, {}))
    for entry in data:
        answer = last_tagged(worked_solution(entry))
        assert data.score_answer(answer, entry) == 1.0


@pytest.mark.parametrize("task", ["chain_sum", "decimal_chain_sum", "products", "lcm"])
def test_the_last_step_reaches_the_answer_and_every_step_is_true(task):
    data = reasoning_gym.create_dataset(task, seed=3, size=100, **PARAMETERS.get(task, {}))
    for entry in data:
        steps = worked_solution(entry, template="|{answer}").split(" |")[0].split(" ")
        for step in steps:
            left, right = step.split("=")
            if re.search(r"(?<!\d)0\d", left):  # Python reads no leading zeros
                continue
            assert eval(left.replace("--", "+")) == pytest.approx(float(right), abs=1e-9)
        assert float(steps[-1].split("=")[1]) == pytest.approx(float(entry["answer"]))


@pytest.mark.parametrize(
    "task, metadata, answer, text",
    [
        ("chain_sum", {"expression": "4 + 3 - 2"}, "5", "4+3=7 7-2=5 <answer>5</answer>"),
        ("chain_sum", {"expression": "4"}, "4", "<answer>4</answer>"),
        ("spell_backward", {"word": "sun"}, "nus", "1s2u3n 3n2u1s <answer>nus</answer>"),
        ("count_bits", {"number": 5}, "2", "5%2=1:1 2%2=0:1 1%2=1:2 <answer>2</answer>"),
        ("gcd", {"numbers": [12, 18]}, "6", "12%18=12 18%12=6 12%6=0 <answer>6</answer>"),
        ("lcm", {"numbers": [4, 6]}, "12", "4%6=4 6%4=2 4%2=0 4*6/2=12 <answer>12</answer>"),
        (
            "products",
            {"expression": "12 * -34"},
            "-408",
            "12*-4=-48 12*-30=-360 -48+-360=-408 <answer>-408</answer>",
        ),
        (
            "letter_counting",
            {"span": ["Banana", "at"], "target_letter": "a"},
            "4",
            "Banana=3:3 at=1:4 <answer>4</answer>",
        ),
        (
            "base_conversion",
            {"source_repr": "1f", "source_base": 16, "target_base": 3},
            "1011",
            "0*16+1=1 1*16+15=31 31%3=1 10%3=1 3%3=0 1%3=1 <answer>1011</answer>",
        ),
    ],
)
def test_worked_solutions_by_hand(task, metadata, answer, text):
    entry = {"answer": answer, "metadata": {"source_dataset": task, **metadata}}
    assert worked_solution(entry) == text


def test_the_template_wraps_the_answer_and_may_hold_braces():
    entry = {"answer": "3", "metadata": {"source_dataset": "chain_sum", "expression": "1 + 2"}}
    assert worked_solution(entry, template=r"\boxed{{answer}}") == r"1+2=3 \boxed{3}"
    with pytest.raises(ValueError, match="answer_template '<answer>' must contain"):
        worked_solution(entry, template="<answer>")


@pytest.mark.parametrize("worked_share", [0.0, 1.0])
@pytest.mark.parametrize("template", [r"\boxed{{answer}}", "{x} {answer} {", "{answer}"])
def test_bare_and_worked_demonstrations_wrap_the_answer_alike(worked_share, template):
    settings = {"seed": 0, "size": 3, "answer_template": template, "worked_share": worked_share}
    for problem in ReasoningGym("chain_sum", **settings):
        wrapped = template.replace("{answer}", problem.reference["answer"])
        assert problem.demonstration.endswith(wrapped)
        assert (problem.demonstration == wrapped) == (worked_share == 0)


@pytest.mark.parametrize("task", ["chain_sum", "countdown"])  # with worked solutions, and without
def test_a_template_without_a_place_for_the_answer_fails_at_once(task):
    for template in ("<answer>", "{}", "{{answer}"[:-1]):
        with pytest.raises(ValueError, match="must contain '{answer}' .config.data.answer_templ"):
            ReasoningGym(task, seed=0, size=2, answer_template=template, worked_share=0.0)


def test_other_tasks_are_an_error_that_lists_the_available():
    entry = reasoning_gym.create_dataset("countdown", seed=0, size=1)[0]
    with pytest.raises(ValueError, match="'countdown'; known: .*'chain_sum'.*'spell_backward'"):
        worked_solution(entry)
    assert ReasoningGym("countdown", seed=0, size=1)[0].demonstration is None
