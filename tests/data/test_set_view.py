"""A set at a glance, counted by hand."""

from rljax.data.feedback_survey import FeedbackSurvey
from rljax.data.set_view import (
    Lengths,
    binned,
    cost_table,
    kind_of_set,
    length_curves,
    lengths_table,
    rules_table,
    to_show,
)
from rljax.data.survey import columns_of
from rljax.data.truncation import Budgets

ROWS = [
    Lengths(3, {"chosen": 2, "rejected": 4}),
    Lengths(5, {"chosen": 3, "rejected": 3}),
    Lengths(9, {"chosen": 5, "rejected": 2}),
]


def test_lengths_and_which_side_is_longer():
    table = lengths_table(ROWS)
    assert table.head == ("tokens", "prompt", "chosen", "rejected")
    assert table.rows[0] == ("least", 3, 2, 2) and table.rows[4] == ("greatest", 9, 5, 4)
    assert table.rows[-1] == ("longer than the other side", "", 1, 1)
    answers = [Lengths(3, {"answer": 2})]
    assert [row[0] for row in lengths_table(answers).rows][-1] == "greatest"


def test_what_truncation_costs():
    # Room for 4: prompts of 5 and 9 lose 1 + 5; the answer of 5 does not fit.
    assert cost_table(ROWS).rows == [
        (1, 3, 2 + 4 + 8, 3),
        (2, 3, 1 + 3 + 7, 3),
        (4, 2, 1 + 5, 1),
        (8, 1, 1, 0),
        (16, 0, 0, 0),
    ]


def test_what_each_rule_costs():
    table = rules_table(ROWS, Budgets(4, 4, "a", "b"))
    assert table.rows == [
        ("refuse", 2, 0, 0, 0),
        ("drop", 0, 2, 0, 0),
        ("keep_end_of_prompt", 0, 1, 1, 1),
        ("keep_start_of_prompt", 0, 1, 1, 1),
    ]


def test_every_row_is_in_a_bin():
    curves = length_curves([*ROWS, Lengths(100, {"chosen": 1, "rejected": 1})])
    assert curves.starts[:3] == [0, 5, 10] and len(curves.starts) == 24
    assert curves.counts["prompt"][:3] == [1, 2, 0] and curves.counts["prompt"][20] == 1
    assert all(sum(counts) == 4 for counts in curves.counts.values())
    assert binned([1.0, 1.0]) == [("1", 2)]
    bins = binned([0.0, 8.0, 7.5])
    assert bins[0] == ("0 to 1", 1) and bins[-1] == ("7 to 8", 2) and len(bins) == 8


def test_rows_to_look_at():
    survey = FeedbackSurvey()
    survey.duplicates, survey.contradictions = [(2, 0)], [(1, 0), (2, 1)]
    survey.margins = [1.0, -1.0, 2.0]
    assert to_show(ROWS, survey) == {
        0: ["the first one", "repeated", "contradicted"],
        2: ["the longest one", "repeats another one"],
        1: ["contradicts another one", "the least margin"],
    }


def test_kinds_of_sets_follow_from_their_columns():
    """Two lists of answers are groups; two lists of messages are the conversations of a pair."""
    message = {"role": "assistant", "content": "4"}
    sides = {
        "groups": (["4", "5"], ["6"]),
        "pairs": ([message], [message]),
    }
    for kind, (chosen, rejected) in sides.items():
        row = {"prompt": "2+2=", "chosen": chosen, "rejected": rejected}
        assert kind_of_set(columns_of([row])) == kind
    assert kind_of_set(columns_of([{"prompt": "x", "chosen": "a", "rejected": "b"}])) == "pairs"
    of_messages = {"prompt": [message], "chosen": [[message]] * 2, "rejected": [[message]]}
    assert kind_of_set(columns_of([of_messages])) == "groups"
