import pytest

from rljax.data.token_bytes import BYTE_LETTERS, spell_tokens

REPLACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
REGEX = {"type": "Replace", "pattern": {"Regex": "▁"}, "content": " "}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
FALLBACK, FUSE, LEVEL = {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "ByteLevel"}


def sequence(*steps):
    return {"type": "Sequence", "decoders": list(steps)}


SENTENCEPIECE = sequence(REPLACE, FALLBACK, FUSE, STRIP)


def test_the_byte_alphabet():
    assert sorted(BYTE_LETTERS.values()) == list(range(256))
    assert all(letter.isprintable() and not letter.isspace() for letter in BYTE_LETTERS)
    # The ends of each stretch.
    known = {"Ā": 0, "Ċ": 10, "Ġ": 32, "!": 33, "~": 126, "ġ": 127, "ł": 160, "¡": 161, "¬": 172}
    known |= {"Ń": 173, "®": 174, "ÿ": 255}
    assert {letter: BYTE_LETTERS[letter] for letter in known} == known


@pytest.mark.parametrize(
    "decoder, tokens, spelled",
    [
        (LEVEL, ["Ġthe", "âĤ¬", "Ã", "<|x|>", "a b"], [" the", "€", b"\xc3", "<|x|>", "a b"]),
        (LEVEL, ["日é", "\u0144"], ["日é", "\u0144"]),
        (SENTENCEPIECE, ["▁a▁", "<0xE2>", "<0x0a>"], [" a ", b"\xe2", "\n"]),
        (SENTENCEPIECE, ["<0xG0>", "<0x0>", "a<0x41>"], ["<0xG0>", "<0x0>", "a<0x41>"]),
        (sequence(REPLACE, FUSE), ["▁a", "<0x41>", "Ġ"], [" a", "<0x41>", "Ġ"]),
        (sequence(LEVEL), ["Ċ"], ["\n"]),
        (FUSE, ["▁é"], ["▁é"]),
        ({"type": "Metaspace", "replacement": "_"}, ["_a_b", "▁"], [" a b", "▁"]),
        (None, ["a", "", "▁"], [" a", " ", " ▁"]),
    ],
)
def test_tokens_by_hand(decoder, tokens, spelled):
    expected = [text if isinstance(text, bytes) else text.encode() for text in spelled]
    assert spell_tokens([*tokens, None], decoder, "config.x") == [*expected, b""]


@pytest.mark.parametrize(
    "decoder, message",
    [
        ({"type": "WordPiece", "prefix": "##"}, "decoder WordPiece .*'##'"),
        ({"type": "BPEDecoder", "suffix": "</w>"}, "BPEDecoder"),
        (sequence(REGEX, FALLBACK), r"decoder Replace > ByteFallback \(stopped at.*Regex"),
        (sequence(FALLBACK, REPLACE), "stopped at.*Replace"),
        (sequence(FALLBACK, LEVEL), "stopped at.*ByteLevel"),
        (sequence(REPLACE, STRIP), "stopped at.*Strip"),  # of each token, not of the text
        (sequence(FUSE, {**STRIP, "stop": 1}), "stopped at.*'stop': 1"),
        (sequence(FUSE, {**STRIP, "content": "_"}), "stopped at.*'_'"),
        (sequence(REPLACE, sequence(FUSE)), "stopped at.*Sequence"),
    ],
)
def test_unknown_steps(decoder, message):
    with pytest.raises(ValueError, match=f"{message}.*known: ByteLevel.*config.x"):
        spell_tokens(["a"], decoder, "config.x")
