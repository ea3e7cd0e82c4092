"""Rows that describe a distribution: which tokens are learned, in which order."""

import re

import pytest

from rljax.data.draws import MARKUPS, draw_segments, draws_example, markup_of
from rljax.data.rows import example_of
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer
from rljax.data.values import UnusableRow

TURNS = ("<|im_start|>", "<|im_end|>")
COIN = [
    {"role": "description", "content": "coin"},
    *(
        {"role": role, "content": content}
        for number in range(4)
        for role, content in (("input", f"toss {number}"), ("output", f"side {number}"))
    ),
]


@pytest.fixture
def text_format():
    return TextFormat(ByteTokenizer(special_tokens=TURNS))


def learned_text(example, tokenizer):
    ids = [token for token, kept in zip(example.tokens, example.learned, strict=True) if kept]
    return tokenizer.decode(ids)


def made(text_format, messages, seed):
    return draws_example(messages, text_format, seed=(seed,), where="row 0")


def test_outputs_are_learned_with_their_ends_and_nothing_else(text_format):
    for seed in range(30):
        example = made(text_format, COIN, seed)
        text = text_format.tokenizer.decode(example.tokens)
        outputs = re.findall(r"side \d<\|im_end\|>", text)
        assert len(outputs) == 4
        described = "coin" in text
        learned = "".join(outputs if described else outputs[1:])
        assert learned_text(example, text_format.tokenizer) == learned
        # Every input stands before its own output, and a row ends with the end of an output.
        pairs = re.findall(r"toss (\d)<\|im_end\|>\n<\|im_start\|>output\nside (\d)", text)
        assert len(pairs) == 4 and all(one == other for one, other in pairs)
        assert text.endswith("<|im_end|>") and example.learned[-1]


def test_the_order_and_the_description_are_drawn_for_each_row(text_format):
    decode = text_format.tokenizer.decode
    texts = [decode(made(text_format, COIN, seed).tokens) for seed in range(400)]
    assert texts[7] == decode(made(text_format, COIN, 7).tokens)
    assert len({tuple(re.findall(r"side (\d)", text)) for text in texts}) == 24
    dropped = sum("coin" not in text for text in texts)
    assert 50 <= dropped <= 110  # 80 expected, standard deviation 8


def test_the_only_output_keeps_its_description(text_format):
    assert all(any(made(text_format, COIN[:3], seed).learned) for seed in range(40))
    with pytest.raises(UnusableRow, match="row 0: the only output has no description"):
        made(text_format, COIN[1:3], 0)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": "x"}], "row 0, message 0: the role 'user' is none of"),
        ([*COIN, COIN[0]], "row 0, message 9: only the first one is a description"),
        ([*COIN[:2], *COIN[1:3]], "row 0, message 2: the input before has no output"),
        (COIN[:2], "row 0: a row ends with an output"),
        (COIN[:1], "row 0: a row ends with an output"),
        ([{"role": "output", "content": None}], "row 0, message 0: the content must be a text"),
    ],
)
def test_other_rows_are_refused(text_format, messages, message):
    with pytest.raises(ValueError, match=message):
        made(text_format, messages, 0)


def test_a_tokenizer_without_marks_of_turns_is_refused():
    with pytest.raises(ValueError, match="learn='draws' marks turns as one of .*im_start"):
        markup_of(TextFormat(ByteTokenizer()), "row 3")
    for token, markup in MARKUPS.items():
        words = re.findall(r"<[^>]+>", markup.before) + [markup.end]
        assert markup_of(TextFormat(ByteTokenizer(special_tokens=tuple(words))), "") == markup
        assert token in words


def test_a_file_is_read_so_by_name(text_format):
    record = {"messages": COIN}
    example = example_of(record, text_format, where="row 0", learn="draws", seed=(7,))
    assert example == made(text_format, COIN, 7)
    with pytest.raises(ValueError, match="learn='draws' reads the column 'messages'"):
        example_of({"prompt": "a", "completion": "b"}, text_format, where="row 0", learn="draws")


def test_an_output_that_continues_a_text_is_no_segment_of_its_own():
    """The end is learned with the content, the newline behind it is not."""
    (begin, content, after) = draw_segments(COIN[2:3], MARKUPS["<|im_start|>"])
    assert (begin.learned, content.learned, after.learned) == (False, False, False)
    later = draw_segments([COIN[2], COIN[4]], MARKUPS["<|im_start|>"])[3:]
    assert [(each.text, each.learned) for each in later] == [
        ("<|im_start|>output\n", False),
        ("side 1<|im_end|>", True),
        ("\n", False),
    ]


@pytest.mark.parametrize("add_bos", [None, True, False])
def test_a_row_begins_as_texts_do(add_bos):
    tokenizer = ByteTokenizer(special_tokens=TURNS)
    text_format = TextFormat(tokenizer, add_bos=add_bos)
    prompt = text_format.prompt("a", where="row 0")
    example = made(text_format, COIN, 0)
    begins = example.tokens[:1] == [tokenizer.bos_id]
    assert begins == (prompt.tokens[:1] == [tokenizer.bos_id]) == bool(add_bos)
    assert not any(example.learned[: int(begins)])
