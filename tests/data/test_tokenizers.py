import random
import shutil
import sys
from types import SimpleNamespace

import pytest

from rljax.data.tokenizers import (
    ByteTokenizer,
    HFTokenizer,
    check_round_trip,
    load_tokenizer,
)

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
        (tmp_path / "tokenizer.json").write_text("{}")
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


def test_ids_with_holes_and_ids_beyond_the_tokenizer(tmp_path):
    """The count of tokens, the largest id and the rows of a model are three numbers."""
    marks = {mark: 10 + place for place, mark in enumerate(MARKS)}
    vocabulary = {"<unk>": 0, "a": 3, "b": 9, **marks}
    tokenizer = make_fast(tmp_path, vocabulary, None)
    assert tokenizer.vocab_size == 15 and tokenizer.known().sum() == 8
    assert [index for index, known in enumerate(tokenizer.known()) if known][:3] == [0, 3, 9]
    for one in (tokenizer, ByteTokenizer(TAGS), load_tokenizer("symbols")):
        unused = [-1, one.vocab_size, 10**6, *([5] if one is tokenizer else [])]
        assert one.decode(unused) == ""
        assert [one.token_text(index) for index in unused[:1]] == ["<unused -1>"]
        assert len(one.token_bytes()) == one.vocab_size == len(one.known())
    assert tokenizer.token_bytes()[5] == b"" and tokenizer.token_text(5) == "<unused 5>"


DAMAGED = {
    "no JSON": ("tokenizer.json", "{"),
    "no model": ("tokenizer.json", "{}"),
    "a list": ("tokenizer_config.json", "[]"),
    "no UTF-8": ("tokenizer.json", b"\xff\xfe\x00"),
    "code of its own": (
        "tokenizer_config.json",
        '{"auto_map": {"AutoTokenizer": ["x.Y", null]}, "tokenizer_class": "Y"}',
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_folder_is_refused_by_name(hf_folder, tmp_path, kind, monkeypatch):
    name, content = DAMAGED[kind]
    folder = tmp_path / "damaged"
    shutil.copytree(hf_folder, folder)
    if kind == "code of its own":  # never run, and nobody is asked
        (folder / "tokenizer.json").unlink()
        (folder / "x.py").write_text("raise SystemExit(1)")
        monkeypatch.setattr("builtins.input", None)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"damaged holds no usable tokenizer: .*tokenizer.path"):
        load_tokenizer(folder)


def test_a_folder_without_tokenizer_files(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="holds none of tokenizer.*'byte' .config.tokenizer.path"):
        load_tokenizer(tmp_path)


def test_text_in_the_middle_gets_no_space_of_its_own(tmp_path):
    """Sentencepiece begins a text with a space; an answer does not begin one."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    names = ["<unk>", "</s>", "▁", "4", "▁4", "\n", "=", "▁="]
    vocabulary = {name: index for index, name in enumerate(names)}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("▁", "4"), ("▁", "=")]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>").save_pretrained(
        tmp_path
    )
    tokenizer = HFTokenizer(tmp_path)
    assert tokenizer.encode("4") == [4] and tokenizer.encode_inside("4") == [3]
    whole = tokenizer.encode("=4")
    assert [*tokenizer.encode("="), *tokenizer.encode_inside("4")] == whole


def test_byte_tokenizer_bytes_are_the_decoded_text():
    tokenizer = ByteTokenizer(TAGS)
    spelled = tokenizer.token_bytes()
    assert len(spelled) == tokenizer.vocab_size
    assert spelled[255:] == [b"\xff", b"", b"", b"", *(tag.encode() for tag in TAGS)]
    draw = random.Random(0)
    for _ in range(500):
        ids = draw.choices(range(tokenizer.vocab_size), k=12)
        joined = b"".join(spelled[i] for i in ids)
        assert joined.decode(errors="replace") == tokenizer.decode(ids)


BYTE_TOKENS = [f"<0x{value:02X}>" for value in range(256)]
MARKS = ("<pad>", "<s>", "</s>", "<answer>", "<né> ")  # pad, bos, eos, two tags


def make_fast(folder, vocab, decoder):
    """A tokenizer that knows these tokens; how it splits a text plays no part here."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    names = vocab if isinstance(vocab, dict) else {name: i for i, name in enumerate(vocab)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token=[*vocab][0]))
    if decoder is not None:
        inner.decoder = decoder(tokenizers.decoders)
    inner.add_special_tokens(list(MARKS[:4]))
    inner.add_tokens([MARKS[4]])
    names = dict(zip(("pad_token", "bos_token", "eos_token"), MARKS, strict=False))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    fast.save_pretrained(folder)
    return HFTokenizer(folder, MARKS[3:])


def sentencepiece(decoders):
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*parts, decoders.Strip(content=" ", left=1)])


PIECES = ["x", "▁a", "▁", "▁▁▁", "b▁c", "é", "€▁", "▁日本", "Ġd", "<0x4>", "x<0x41>", "\n"]
KINDS = {
    "sentencepiece": (["<unk>", *BYTE_TOKENS, *PIECES], sentencepiece, True),
    "sentencepiece that keeps the first space": (
        ["<unk>", *BYTE_TOKENS, *PIECES],
        lambda d: d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse()]),
        False,
    ),
    "metaspace": (["<unk>", *PIECES], lambda d: d.Metaspace(), True),
    "words": (["<unk>", "a", "be", "sea", "né", "</w>"], None, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_token_bytes_are_the_decoded_text_but_for_the_spaces_at_its_beginning(tmp_path, kind):
    vocab, decoder, strips = KINDS[kind]
    tokenizer = make_fast(tmp_path, vocab, decoder)
    spelled = tokenizer.token_bytes()
    assert len(spelled) == tokenizer.vocab_size == len(vocab) + len(MARKS)
    assert spelled[-5:-2] == [b"", b"", b""]
    space = b" " if decoder is None else b""
    assert spelled[-2:] == [space + mark.encode() for mark in MARKS[3:]]
    draw = random.Random(0)
    fallback = {chr(0x41): [1 + 0x41], "😀": [1 + byte for byte in "😀".encode()], "": []}
    pieces = [i for i in range(tokenizer.vocab_size) if i >= 257 or BYTE_TOKENS[0] not in vocab]
    stripped = 0
    for _ in range(500):
        ids = []
        for piece in draw.choices(pieces, k=8):
            ids += [piece, *fallback[draw.choice([*fallback])]] if len(vocab) > 257 else [piece]
        text = b"".join(spelled[i] for i in ids).decode()
        begun = tokenizer.decode([0, *ids])
        assert begun == "<unk>" + text
        alone = tokenizer.decode(ids)
        first = next(i for i in ids if spelled[i])
        if kind == "metaspace" and first < len(vocab):  # all spaces of the first token
            head = spelled[first].decode()
            assert alone == head.replace(" ", "") + text[len(head) :]
        else:
            assert alone == (text[1:] if strips and text[:1] == " " else text)
        stripped += alone != text
    assert (stripped > 0) == strips


def byte_level_tokenizer(folder):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|user|>", "<tag €>", "né"],
        show_progress=False,
    )
    inner.train_from_iterator(["the café costs 5€ 😀😀 日本 語の 日本語 the end\n\n"] * 20, trainer)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>"
    ).save_pretrained(folder)
    return HFTokenizer(folder, ("<|user|>",))


def test_byte_level_token_bytes_are_the_decoded_text_of_any_ids(tmp_path):
    tokenizer = byte_level_tokenizer(tmp_path)
    spelled = tokenizer.token_bytes()
    # Decoding takes letters of the byte alphabet for bytes in added tokens, too.
    assert spelled[:4] == [b"", b"<|user|>", "<tag €>".encode(), b"n\xe9"]
    assert {bytes([value]) for value in range(256)} <= set(spelled)
    assert sum(len(token) > 1 for token in spelled) > 30
    draw = random.Random(0)
    for _ in range(2000):
        ids = draw.choices(range(tokenizer.vocab_size), k=9)
        joined = b"".join(spelled[i] for i in ids)
        assert joined.decode(errors="replace") == tokenizer.decode(ids)
    text = " the café\tcosts 7 € 😀 語<|user|>\x00"
    assert b"".join(spelled[i] for i in tokenizer.encode(text)).decode() == text


def test_a_wrong_byte_spoils_its_whole_run_with_byte_fallback(tmp_path):
    tokenizer = make_fast(tmp_path, *KINDS["sentencepiece"][:2])
    ids = [1 + 0x41, 1 + 0xFF, 257]
    assert tokenizer.decode(ids) == "\ufffd\ufffdx"
    assert [tokenizer.token_bytes()[i] for i in ids] == [b"A", b"\xff", b"x"]


def test_kinds_of_tokenizers_whose_bytes_are_not_known(tmp_path):
    tokenizer = make_fast(tmp_path, ["<unk>", "a", "##b"], lambda d: d.WordPiece())
    with pytest.raises(ValueError, match=r"decoder WordPiece .*known: .*config.tokenizer.path"):
        tokenizer.token_bytes()
    tokenizer.inner = SimpleNamespace(is_fast=False, name_or_path="here")
    with pytest.raises(ValueError, match="fast tokenizers.*only, here holds a SimpleNamespace"):
        tokenizer.token_bytes()


def test_round_trip(hf_folder):
    words, field = load_tokenizer(hf_folder), "config.x"
    for text in ("hello world", " hello", "<answer>"):
        check_round_trip(text, words, field)
    for text, back in (("hello you", "hello <unk>"), ("hello  world", "hello world")):
        with pytest.raises(ValueError, match=f"'{text}', it makes '{back}' of it .config.x"):
            check_round_trip(text, words, field)
    with pytest.raises(ValueError, match="'<eos>', it makes '' of it"):
        check_round_trip("<eos>", words, field)
    check_round_trip(" é\n</answer>", ByteTokenizer(TAGS), field)
