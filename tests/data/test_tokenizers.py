import sys

import pytest

from rljax.data.chat import PlainTemplate, render_chat
from rljax.data.tokenizers import ByteTokenizer, HFTokenizer, load_tokenizer

TAGS = ("<answer>", "</answer>", "<a", "<answer>>")


@pytest.mark.parametrize("text", ["", "plain", "é€😀\n\x00", "x<answer>1</answer>", "<answer>><a<"])
def test_bytes_round_trip(text):
    for tokenizer in (ByteTokenizer(), ByteTokenizer(TAGS)):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_one_id_and_the_longest_match_wins():
    tokenizer = ByteTokenizer(TAGS)
    assert tokenizer.vocab_size == 263
    assert tokenizer.encode("<answer>7</answer>") == [259, ord("7"), 260]
    assert tokenizer.encode("<answer>>") == [262]
    assert tokenizer.encode("<ab") == [261, ord("b")]
    assert tokenizer.token_text(259) == "<answer>"


def test_decode_skips_pad_bos_eos_and_survives_broken_utf8():
    tokenizer = ByteTokenizer(("<s>",))
    ids = [tokenizer.bos_id, 104, 259, 105, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode(ids) == "h<s>i"
    assert tokenizer.decode([0xC3]) == "\ufffd"
    with pytest.raises(ValueError, match="260 is outside"):
        tokenizer.decode([260])


def test_token_text_is_visible_for_every_id():
    tokenizer = ByteTokenizer(("<s>",))
    texts = [tokenizer.token_text(i) for i in range(tokenizer.vocab_size)]
    assert (
        texts[65] == "A"
        and texts[10] == "<0x0A>"
        and texts[256:]
        == [
            "<pad>",
            "<bos>",
            "<eos>",
            "<s>",
        ]
    )
    assert len(set(texts)) == tokenizer.vocab_size


@pytest.mark.parametrize("bad, message", [(("a", "a"), "given twice"), (("",), "non-empty")])
def test_bad_special_tokens(bad, message):
    with pytest.raises(ValueError, match=f"{message}.*config.tokenizer.special_tokens"):
        ByteTokenizer(bad)


def test_a_missing_folder_says_that_nothing_is_downloaded():
    with pytest.raises(ValueError, match="No tokenizer folder 'org/name'.*nothing is downloaded"):
        load_tokenizer("org/name")
    assert load_tokenizer("byte", ("<x>",)).vocab_size == 260


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"extra 'hf': pip install.*\(config.tokenizer.path\)"):
        HFTokenizer(tmp_path)


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<unk>": 0, "<eos>": 1, "hello": 2, "world": 3, "user": 4, "bot": 5, "<answer>": 6}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>"
    )
    fast.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}bot{% endif %}"
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return folder


def test_hf_tokenizer_from_a_local_folder(hf_folder):
    tokenizer = load_tokenizer(hf_folder, ("<answer>",))
    assert tokenizer.vocab_size == 7 and tokenizer.eos_id == 1 and tokenizer.pad_id == 1
    assert tokenizer.encode("hello <answer> world") == [2, 6, 3]
    assert tokenizer.decode([2, 6, 3, 1]).split() == ["hello", "<answer>", "world"]
    assert tokenizer.token_text(2) == "hello"
    with pytest.raises(ValueError, match="'hello world' is 2 tokens"):
        HFTokenizer(hf_folder, ("hello world",))


def test_hf_chat_template(hf_folder):
    tokenizer = load_tokenizer(hf_folder)
    messages = [{"role": "user", "content": "hello world"}]
    assert render_chat(messages, tokenizer) == "user hello world bot"
    assert tokenizer.encode(render_chat(messages, tokenizer)) == [4, 2, 3, 5]
    closed = render_chat(messages, tokenizer, add_generation_prompt=False)
    assert tokenizer.encode(closed) == [4, 2, 3]


def test_plain_template_keeps_braces_and_roles():
    template = PlainTemplate(turn="[{role}] {content};", generation_prompt="[me] ")
    messages = [{"role": "user", "content": "{role} {x}"}, {"role": "me", "content": "ok"}]
    text = render_chat(messages, ByteTokenizer(), template=template)
    assert text == "[user] {role} {x};[me] ok;[me] "
    closed = render_chat(messages, ByteTokenizer(), template=template, add_generation_prompt=False)
    assert text == closed + "[me] "


def test_chat_errors():
    tokenizer, messages = ByteTokenizer(), [{"role": "user", "content": "x"}]
    with pytest.raises(ValueError, match="ByteTokenizer.*has no chat template.*tokenizer.path"):
        render_chat(messages, tokenizer)
    with pytest.raises(ValueError, match=r"Message 0 lacks \['content'\]; it has \['role'\]"):
        render_chat([{"role": "user"}], tokenizer, template=PlainTemplate())
    with pytest.raises(ValueError, match="at least one message"):
        render_chat([], tokenizer, template=PlainTemplate())
    with pytest.raises(ValueError, match="must contain '{content}'"):
        render_chat(messages, tokenizer, template=PlainTemplate(turn="x"))
