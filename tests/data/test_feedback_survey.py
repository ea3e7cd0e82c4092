"""What a data set says as a whole, counted by hand."""

import pytest

from rljax.data.feedback import Labelled, Scored, Stepwise
from rljax.data.feedback_survey import FeedbackSurvey, overlap_remark
from rljax.data.pairs import Pair


def surveyed(rows) -> FeedbackSurvey:
    survey = FeedbackSurvey()
    for row in rows:
        survey.add(row)
    return survey


def place(index: int) -> str:
    return f"f.jsonl, line {index + 1}"


PAIRS = [
    Pair([1], ([2, 9], [3, 9]), 1.0),
    Pair([1], ([2, 9], [4, 9]), 0.0),
    Pair([1], ([3, 9], [2, 9]), -1.0),  # the first one the other way round
    Pair([1, 2], ([9], [3, 9]), None),  # the ids of the first one, parted elsewhere
    Pair([1], ([2, 9], [3, 9]), 2.0),  # the first one again, and the third one the other way round
]


def test_pairs_twice_and_pairs_that_contradict():
    survey = surveyed(PAIRS)
    assert survey.duplicates == [(4, 0)]
    assert survey.contradictions == [(2, 0), (4, 2)]
    assert survey.prompt_lengths == [1, 1, 1, 2, 1]
    assert survey.answer_lengths == [2, 2, 2, 2, 2, 2, 1, 2, 2, 2]
    assert survey.margins == [1.0, 0.0, -1.0, 2.0]
    assert survey.remarks(place) == [
        "1 of 5 rows repeat earlier ones: line 5 (as line 1)",
        "2 of 5 rows contradict earlier ones: line 3 (as line 1), line 5 (as line 3)",
        "the chosen side has the lower score in 1 of 5 rows",
    ]
    assert survey.refusal() is None


def test_labels_that_contradict():
    rows = [Labelled([1], [2], True), Labelled([1], [2], False), Labelled([1], [3], True)]
    survey = surveyed(rows)
    assert survey.contradictions == [(1, 0)] and not survey.duplicates
    assert survey.labels == [1, 2]
    assert surveyed(rows[::2]).remarks(place) == ["all 2 labels are True"]


def test_scores_and_steps():
    rows = [Scored([1], [[2], [3]], [0.5, 0.5]), Scored([1], [[2], [3]], [0.5, 1.0])]
    survey = surveyed([*rows, rows[1]])
    assert survey.duplicates == [(2, 1)] and survey.level == 1
    assert "all scores are the same in 1 of 3 rows" in survey.remarks(place)
    steps = [Stepwise([1], [2, 3], [1, 2], labels, None) for labels in ([True, False], [True] * 2)]
    assert surveyed([*steps, steps[0]]).duplicates == [(2, 0)]
    assert surveyed(steps).labels == [1, 3]


def test_a_column_that_is_the_same_everywhere_is_another_one():
    def rows(count, chosen):
        return [Pair([n], (chosen or [n, 9], [50 + n, 9])) for n in range(count)]

    message = "'chosen' holds the same text in all 10 rows, whose prompts differ"
    assert message in surveyed(rows(10, [7, 9])).refusal()
    assert surveyed(rows(9, [7, 9])).refusal() is None  # too few to tell
    assert surveyed(rows(10, None)).refusal() is None
    one_prompt = [Pair([1], ([7, 9], [n, 9])) for n in range(20)]
    assert surveyed(one_prompt).refusal() is None
    rejected = [Pair([n], ([n, 9], [50, 9])) for n in range(10)]
    assert surveyed(rejected).refusal() is None
    assert "the column 'rejected' holds the same text in all 10 rows" in surveyed(rejected).remarks(
        place
    )
    labelled = [Labelled([n], [7, 9], n % 2 == 0) for n in range(10)]
    assert "'completion' holds the same text" in surveyed(labelled).refusal()


@pytest.mark.parametrize("last", [-0.5, 0.0, None])
def test_sides_that_are_swapped_everywhere(last):
    rows = [Pair([n], ([n, 9], [50 + n, 9]), -1.0) for n in range(9)]
    refusal = surveyed([*rows, Pair([9], ([1], [2]), last)]).refusal()
    assert (refusal is None) == (last != -0.5)
    assert refusal is None or "lower score in all 10 rows: chosen and rejected are" in refusal


def test_overlap_of_two_sets():
    heldout = [Pair([1], ([2, 9], [3, 9])), Pair([1], ([8], [9])), Pair([5], ([8], [9]))]
    assert surveyed(PAIRS).overlap(surveyed(heldout)) == (1, 1)
    assert overlap_remark(surveyed(PAIRS), surveyed(heldout)) == [
        "1 prompts of the 3 held-out rows, 1 of them with the same answers, are in the training "
        "rows too"
    ]
    assert overlap_remark(surveyed(PAIRS), surveyed(heldout[2:])) == []
