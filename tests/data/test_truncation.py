"""What is kept of rows that are too long."""

import pytest

from rljax.data.packing import Example
from rljax.data.truncation import (
    TRUNCATIONS,
    Budgets,
    Losses,
    fitting_example,
    fitting_prompt,
)

BUDGETS = Budgets(3, 2, "config.data.max_prompt_tokens", "config.s.data.max_completion_tokens")
LONG, SHORT = [1, 2, 3, 4, 5], [1, 2, 3]
ANSWERS = {"chosen": [7, 9], "rejected": [9]}


def fit(prompt, rule, answers=ANSWERS, bos_id=None):
    return fitting_prompt(prompt, answers, BUDGETS, rule, bos_id=bos_id, where="f, line 2")


def test_every_rule_by_hand():
    assert fit(LONG, "drop") is None
    assert fit(LONG, "keep_end_of_prompt") == [3, 4, 5]
    assert fit(LONG, "keep_end_of_prompt", bos_id=1) == [1, 4, 5]
    assert fit(LONG, "keep_start_of_prompt") == [1, 2, 3]
    with pytest.raises(ValueError, match="The prompt of f, line 2 has 5 tokens, at most 3"):
        fit(LONG, "refuse")


@pytest.mark.parametrize("rule", TRUNCATIONS)
def test_what_fits_stays_and_no_answer_is_cut(rule):
    assert fit(SHORT, rule) == SHORT
    too_long = {"chosen": [7, 9], "rejected": [7, 8, 9]}
    if rule == "refuse":
        with pytest.raises(ValueError, match="rejected of f, line 2 has 3 tokens, at most 2"):
            fit(SHORT, rule, too_long)
    else:
        assert fit(SHORT, rule, too_long) is None


def test_losses_are_counted():
    losses = Losses()
    assert losses.remarks() == []
    for prompt, kept in ((LONG, [3, 4, 5]), (SHORT, SHORT), (LONG, None)):
        losses.add(prompt, kept)
    assert losses.remarks() == [
        "1 of 3 rows are too long and are left out",
        "1 of 2 prompts lose 2 of 8 tokens",
    ]


def fit_example(rule, room, bos_id=None):
    example = Example([1, 2, 3, 7, 8, 5, 9], [False, False, False, True, True, False, True])
    return fitting_example(example, room, rule, bos_id=bos_id, where="f, line 2", field="rows")


def test_all_that_is_learned_of_a_demonstration_stays():
    cut = Example([2, 3, 7, 8, 5, 9], [False, False, True, True, False, True])
    assert fit_example("keep_end_of_prompt", 6) == cut
    assert fit_example("keep_end_of_prompt", 6, bos_id=1).tokens == [1, 3, 7, 8, 5, 9]
    assert fit_example("keep_start_of_prompt", 5).tokens == [1, 7, 8, 5, 9]
    assert fit_example("keep_end_of_prompt", 4) is None  # nothing left to be answered
    assert fit_example("drop", 6) is None
    for rule in TRUNCATIONS:
        assert fit_example(rule, 7).tokens == [1, 2, 3, 7, 8, 5, 9]
    with pytest.raises(ValueError, match=r"f, line 2 has 7 tokens, at most 6 are allowed \(rows\)"):
        fit_example("refuse", 6)
