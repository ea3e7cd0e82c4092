"""The reward of the symbol tasks on the host."""

import json

import pytest

from rljax.rewards.compose import Composition
from rljax.rewards.functions import find_reward
from rljax.rewards.pool import Scorer
from rljax.tasks.symbols.records import SymbolSet

FACTS = {"line": [5, 2, 0], "answer": 9, "line_credit": 0.25}
CHAIN = json.dumps({"task": "modchain", "facts": FACTS})


def test_a_reference_may_be_json_text_or_what_is_in_it():
    reward = find_reward("symbols")
    for reference in (CHAIN, json.loads(CHAIN)):
        assert reward("", "30>7", reference, completion_tokens=5) == 1.0
        assert reward("", "30>8", reference, completion_tokens=5) == 0.25
        assert reward("", "30>8", reference, completion_tokens=5, binary=True) == 0.0


def test_a_completion_that_was_cut_off_is_wrong():
    reward = find_reward("symbols")
    assert reward("", "30>7", CHAIN, completion_tokens=4) == 0.0
    assert reward("", "30>7", CHAIN, completion_tokens=4, end_required=False) == 1.0


@pytest.mark.parametrize("reference", ["7", '{"task": "sort"}', "[]"])
def test_another_reference_is_an_error(reference):
    with pytest.raises(ValueError, match="needs a reference with 'task' and 'facts'"):
        find_reward("symbols")("", "7", reference, completion_tokens=2)


@pytest.mark.parametrize("name", ["countdown3", "sort", "sudoku4"])
def test_solutions_score_one_in_a_scorer(name):
    problems = list(SymbolSet(name, seed=0, size=4, split="train"))
    texts = [problem.demonstration for problem in problems]
    spec = [{"name": "symbols", "as": "correct", "options": {"binary": True}}]
    assert Composition(spec).needs_token_counts
    with Scorer(spec, workers=0) as scorer:
        scores = scorer.score(
            [problem.prompt for problem in problems],
            texts,
            [problem.reference for problem in problems],
            [len(text) + 1 for text in texts],
        )
    assert scores.correct.all() and scores.first_error is None
