"""Ends of steps, found on tokens of any size."""

import numpy as np
import pytest

from rljax.data.feedback import stepwise_of
from rljax.data.step_ends import STEP_SCORE_REDUCTIONS, reduce_steps, step_ends
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer
from rljax.training.families.feedback import read_steps

EOS = b""  # what an end adds to the text


def ends_of(pieces, separator="\n"):
    tokens = np.arange(len(pieces) + 1)[None]
    mask = tokens < len(pieces)  # the last slot is padding
    found = step_ends(tokens, mask, [*pieces, b"x\n"], separator)
    return np.flatnonzero(found[0]).tolist()


@pytest.mark.parametrize(
    "pieces, expected",
    [
        ([b"a", b"\n", b"b", b"\n", b"c", EOS], [1, 3, 4]),
        ([b"a", b"\n", b"b", b"\n", EOS], [1, 3]),  # the last step ends with its separator
        ([b"a\n", b"b\n\n", b"c"], [0, 1, 2]),  # inside of larger tokens
        ([b"a.", b"\nb", b"\nc", b"d", EOS], [1, 2, 3]),
        ([b"a", b"\n", b"\n", b" ", b"\n", b"b"], [4, 5]),  # blank lines belong to the step before
        ([b"\n", b"\n", b"a", EOS], [2]),  # and to none before the first
        ([b"a", EOS], [0]),
        ([EOS], [0]),
        ([b"\n", EOS], [1]),
        ([], []),
    ],
)
def test_where_steps_end(pieces, expected):
    assert ends_of(pieces) == expected


def test_a_separator_may_be_spread_over_tokens():
    assert ends_of([b"a#", b"#", b"b", b"##", b"c"], "##") == [1, 3, 4]
    assert ends_of([b"a#", b"b"], "##") == [1]


def test_labelled_steps_end_where_sampled_ones_do():
    """Rows that say a label for each step, and the same answer as a sample of it."""
    record = {"prompt": "p", "completions": ["ab", "c", "def"], "labels": [True, True, False]}
    tokenizer = ByteTokenizer()
    row = stepwise_of(record, TextFormat(tokenizer), where="row 0")
    tokens = np.array([row.completion])
    found = step_ends(tokens, np.ones(tokens.shape, bool), tokenizer.token_bytes(), "\n")
    assert (np.flatnonzero(found[0]) + 1).tolist() == row.ends == [3, 5, 8]


@pytest.mark.parametrize("separator", ["\n", "\n\n", "##"])
def test_rows_of_steps_are_refused_where_a_sample_would_be_cut_otherwise(separator):
    """Steps of any letters: where the reader takes a row, a sample of it has the same steps."""
    random, tokenizer, taken = np.random.default_rng(0), ByteTokenizer(), 0
    letters = ["a", "b ", "\n", "#", separator]
    for _ in range(600):
        steps = ["".join(random.choice(letters, random.integers(1, 5))) for _ in range(3)]
        if not all(step.strip() for step in steps):
            continue
        record = {"prompt": "p", "completions": steps, "labels": [True] * 3}
        words = {"where": "row 0", "separator": separator, "separator_field": "data.step_separator"}
        try:
            row = read_steps(record, TextFormat(tokenizer), **words)
        except ValueError as error:
            assert "row 0: step" in str(error) and "(data.step_separator)" in str(error)
            continue
        taken += 1
        tokens, spelt = np.array([row.completion]), tokenizer.token_bytes()
        found = step_ends(tokens, np.ones(tokens.shape, bool), spelt, separator)
        assert (np.flatnonzero(found[0]) + 1).tolist() == row.ends, steps
    assert taken > 20
    several = {"prompt": "p", "completions": ["a" + separator + "b"], "labels": [True]}
    with pytest.raises(ValueError, match="step 0 holds the separator"):
        read_steps(several, TextFormat(tokenizer), **words)


def test_one_number_of_the_steps():
    chances = np.array([[0.5, 0.9, 0.25, 0.1], [0.3, 0.9, 0.9, 0.9], [0.7] * 4])
    ends = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    expected = {
        "last": [0.25, 0.3, 0],
        "min": [0.25, 0.3, 0],
        "mean": [0.375, 0.3, 0],
        "product": [0.125, 0.3, 0],
    }
    assert set(expected) == set(STEP_SCORE_REDUCTIONS)
    for how, values in expected.items():
        np.testing.assert_allclose(reduce_steps(chances, ends, how), values, rtol=1e-6)
    better = reduce_steps(chances[:, ::-1], ends[:, ::-1], "last")
    np.testing.assert_allclose(better, [0.5, 0.3, 0], rtol=1e-6)
