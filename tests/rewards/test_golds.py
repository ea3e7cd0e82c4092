"""Gold answers of whole files: counts, and one error with the place."""

import pytest

from rljax.rewards.functions import REWARDS
from rljax.rewards.golds import GOLD_READERS, check_golds, counted
from rljax.rewards.markdown import reward_table
from rljax.tasks.reasoning_gym import ReasoningGym
from rljax.tasks.symbols.records import SymbolSet

SUDOKU = {"puzzle": "3014002020004130", "solution": "3214142323414132"}
# A gold that each of these rewards reads, and one that it refuses.
EXAMPLES = {
    "exact_match": ("", None),
    "math_string": ("1/2", True),
    "tagged_correctness": ("so\n#### 42", float("nan")),
    "countdown": ({"numbers": [2, 3], "target": 5}, {"numbers": ["2"], "target": 5}),
    "countdown_boxed": ('{"numbers": [2, 3], "target": 5}', {"numbers": [], "target": 5}),
    "sudoku": (SUDOKU, SUDOKU | {"puzzle": "x" * 16}),
    "sudoku_cells": (SUDOKU, {"puzzle": "1"}),
    "sudoku_valid_grid": (SUDOKU, SUDOKU | {"solution": 3214142323414132}),
    "gsm8k_verl_strict": ("so\n#### 1,042", "forty-two"),
    "math_verl": ("so \\boxed{\\frac12}", " "),
    "f1_open_instruct": ("a red car", ""),
}


def place(row):
    return f"golds.jsonl, line {row + 1}"


@pytest.mark.parametrize("reward", EXAMPLES)
def test_readers(reward):
    good, bad = EXAMPLES[reward]
    assert sum(check_golds([reward], [good, good], place)[reward].values()) == 2
    with pytest.raises(ValueError, match=rf"golds.jsonl, line 2: the reward '{reward}' cannot"):
        check_golds([reward], [good, bad], place)


def test_a_reader_refuses_what_its_reward_cannot_score():
    for reward, (good, bad) in EXAMPLES.items():
        REWARDS[reward]("", "<answer>1</answer> \\boxed{1}", good)
        if not isinstance(bad, str):  # an empty or foreign text could be scored, but never as right
            with pytest.raises(ValueError):
                REWARDS[reward]("", "<answer>1</answer> \\boxed{1}", bad)


def test_golds_of_tasks_are_read():
    gym = [problem.reference for problem in ReasoningGym("gcd", seed=0, size=2)]
    symbols = SymbolSet("sort", seed=0, size=2, split="train")
    assert check_golds(["reasoning_gym"], gym, place)
    assert check_golds(["symbols"], [problem.reference for problem in symbols], place)


def test_counts_by_rule_in_a_sentence():
    references = ["#### 72", "#### 1,000", "72", "x+1", 5]
    counts = check_golds(["math", "format", "mine.py:f", "math"], references, place)
    assert counts == {"math": {"number, after ####": 2, "number": 2, "expression": 1}}
    said = "training golds as 'math' reads them: 2 number, after ####, 2 number, 1 expression"
    assert counted(counts, "training") == [said]


def test_the_first_gold_that_cannot_be_read_is_named_with_how_many_there_are():
    references = ["72", "He has 5 apples", "7", "", "nan"]
    with pytest.raises(ValueError) as caught:
        check_golds(["exact_match", "math"], references, place)
    message = str(caught.value)
    assert message.startswith("golds.jsonl, line 2: the reward 'math' cannot read the gold answer ")
    assert "'He has 5 apples': words and mathematics in one text" in message
    assert "; 2 more rows cannot be read (config.data.reference_column)." in message
    assert "allowed: a number, LaTeX, words or letters" in message and "\n" not in message
    with pytest.raises(ValueError, match=r"'xxx.* \.\.\. x+': it has 900 characters"):
        check_golds(["math"], ["x" * 900], place)


def test_every_reward_is_in_the_table():
    assert set(GOLD_READERS) < set(REWARDS)
    rows = reward_table().splitlines()
    assert len(rows) == len(REWARDS) + 2
    assert any(row.startswith("| `math` | 1.0 if") for row in rows)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
    assert all(len(row.split(" | ")[1]) > 10 for row in rows[2:])
