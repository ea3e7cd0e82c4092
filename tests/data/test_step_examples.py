"""Labelled steps as demonstrations: which tokens are learned, by the texts that they are of."""

import pytest

from rljax.data.chat import make_template
from rljax.data.step_examples import (
    REWRITTEN,
    UNSURE,
    example_of_steps,
    ranked_answers,
    rewritten,
)
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer, HFTokenizer
from rljax.registry import FAMILIES
from tests.folders import CHATML, ids_of, write_tokenizer

WHERE = "steps.jsonl, line 3"
END = ByteTokenizer().eos_id
PLAIN = TextFormat(ByteTokenizer())
ATTEMPT = {
    "prompt": "2+3*2=",
    "completions": ["10", "incorrect", "8", "correct"],
    "labels": [False, True, True, True],
}


def learned(example):
    return [token for token, on in zip(*example, strict=True) if on]


def test_a_wrong_attempt_is_read_and_not_learned():
    example = example_of_steps(ATTEMPT, PLAIN, where=WHERE, rule="right_steps")
    assert example.tokens == [*b"2+3*2=10\nincorrect\n8\ncorrect", END]
    assert learned(example) == [*b"incorrect\n8\ncorrect", END]
    assert not any(example.learned[: len(b"2+3*2=10\n")])


def test_an_answer_does_not_learn_to_end_behind_a_wrong_step():
    row = ATTEMPT | {"completions": ["8", "10"], "labels": [True, False]}
    example = example_of_steps(row, PLAIN, where=WHERE, rule="right_steps")
    assert learned(example) == [*b"8\n"] and example.tokens[-1] == END


@pytest.mark.parametrize(
    ("labels", "until", "without"),
    [
        ([True, True, True], ["a", "b", "c"], ["a", "b", "c"]),
        ([True, False, True], ["a", UNSURE], ["a", "c"]),
        ([False, True, True], [UNSURE], ["b", "c"]),
        ([False, False, False], [UNSURE], [UNSURE]),
    ],
)
def test_answers_say_what_is_right(labels, until, without):
    for rule, expected in zip(REWRITTEN, (until, without), strict=True):
        assert rewritten(["a", "b", "c"], labels, rule, UNSURE) == expected
        row = {"prompt": "x", "completions": ["a", "b", "c"], "labels": labels}
        example = example_of_steps(row, PLAIN, where=WHERE, rule=rule)
        text = "\n".join(expected)
        assert example.tokens == [*b"x", *text.encode(), END]
        assert learned(example) == [*text.encode(), END]  # the marker too


def test_the_marker_is_the_config_s():
    assert FAMILIES["supervised"].sources["jsonl"].data["unsure_marker"] == UNSURE
    row = ATTEMPT | {"labels": [True, False, True, True]}
    example = example_of_steps(row, PLAIN, where=WHERE, rule="until_error", marker="I stop")
    assert learned(example) == [*b"10\nI stop", END]


def test_steps_behind_a_chat_prompt(tmp_path):
    """The end of the turn is learned as the right step before it is."""
    write_tokenizer(tmp_path / "folder", CHATML)
    tokenizer = HFTokenizer(tmp_path / "folder")
    text_format = TextFormat(tokenizer, template=make_template(tokenizer))
    row = ATTEMPT | {"prompt": [{"role": "user", "content": "2+3*2?"}]}
    example = example_of_steps(row, text_format, where=WHERE, rule="right_steps", check_whole=True)
    opened = "<|start|>user\n2+3*2?<|end|>\n<|start|>assistant\n"
    assert example.tokens[: len(ids_of(opened))] == ids_of(opened)
    assert learned(example) == ids_of("incorrect\n8\ncorrect<|end|>")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [False] * 4}, "line 3: no step is right, so that nothing"),
        ({"labels": [True]}, "line 3 has 4 completions and 1 labels"),
        ({"completions": None}, "line 3 lacks the column 'completions'"),
        ({"completions": ["10", "", "8", "no"]}, "line 3: step 1 is empty"),
    ],
)
def test_rows_that_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        example_of_steps(ATTEMPT | change, PLAIN, where=WHERE, rule="right_steps")


def test_the_rank_of_an_answer_says_how_much_is_learned():
    """The higher, the fewer right steps; whatever order the file has."""
    shares = [3, 1, 2, 0, 3, 1]
    records = [
        {"prompt": "p", "completions": list("abc"), "labels": [n < right for n in range(3)]}
        for right in shares
    ]
    others = [{"prompt": "q", "labels": [True]}, {"prompt": "q", "labels": "none"}]
    taken = [ranked_answers(records, rank) for rank in (1 / 6, 0.4, 0.6, 0.8, 1.0)]
    assert taken == [[0], [2], [1], [5], [3]]  # of 3, 3, 2, 1, 1, 0 right steps
    said = [shares[place] for (place,) in taken]
    assert said == sorted(said, reverse=True)
    assert ranked_answers([*records, *others], 0.5) == [2, 6, 7]
    assert ranked_answers(others[:1] * 2, 0.5) == [0] and ranked_answers([], 0.5) == []
    with pytest.raises(ValueError, match="record 1: the label of step 1 must be true or false"):
        ranked_answers([*others[:1], {"prompt": "q", "labels": [True, "no"]}], 0.5)
    each = [{"prompt": "p", "labels": [True] * (25 - n) + [False] * n} for n in range(25)]
    assert ranked_answers(each, 0.28) == [6]  # place 7, though 0.28 * 25 > 7 in float64
