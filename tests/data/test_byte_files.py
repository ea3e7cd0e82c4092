"""The byte tokenizer as transformers reads it."""

import random

import pytest

from rljax.data.byte_files import write_byte_tokenizer, write_chat_template
from rljax.data.chat import PlainTemplate, make_template
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer, HFTokenizer

TAGS = ("<answer>", "</answer>", "né ")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bytes")
    turn = "[{role}] {content} 'x\"\\\n"
    write_byte_tokenizer(folder, ByteTokenizer(TAGS))
    write_chat_template(folder, turn, "[me] \n{{")
    return HFTokenizer(folder, TAGS), PlainTemplate(turn, "[me] \n{{")


def test_ids_and_texts_are_the_same(loaded):
    own, (other, _) = ByteTokenizer(TAGS), loaded
    for name in ("vocab_size", "pad_id", "bos_id", "eos_id", "begin"):
        assert getattr(own, name) == getattr(other, name)
    draw = random.Random(0)
    pieces = [*TAGS, "a", " ", "\n", "é", "😀", "\x00", "<", "日本", "\u2028"]
    for _ in range(300):
        text = "".join(draw.choices(pieces, k=draw.randrange(12)))
        assert other.encode(text) == own.encode(text) == other.encode_inside(text)
        assert other.decode(own.encode(text)) == text
    ids = draw.choices([*range(256), 259, 260], k=400)
    assert other.decode(ids) == own.decode(ids)
    assert other.token_bytes()[:261] == own.token_bytes()[:261]


def test_the_chat_template_is_the_same(loaded):
    tokenizer, plain = loaded
    messages = [{"role": "user", "content": "hi {{ x }}"}, {"role": "bot", "content": "\n"}]
    jinja = TextFormat(tokenizer, template=make_template(tokenizer))
    own = TextFormat(ByteTokenizer(TAGS), template=plain)
    for end in (1, 2):
        expected = own.prompt(messages[:end], where="")
        assert jinja.prompt(messages[:end], where="").tokens == expected.tokens
