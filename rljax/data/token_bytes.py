"""The bytes of tokens, from the steps by which a Hugging Face tokenizer joins tokens to text.

A fast tokenizer's file (tokenizer.json) describes these steps under "decoder".
"""

import re
from collections.abc import Callable, Mapping, Sequence

BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


def _byte_letters() -> dict[str, int]:
    """The alphabet of byte-level BPE: a visible letter for each byte.

    Printable letters of Latin-1 stand for their own code, the other bytes, in order, for the
    letters from U+0100 on; a space (byte 32) is U+0120.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters = {chr(value): value for value in visible}
    others = [value for value in range(256) if value not in visible]
    return letters | {chr(0x100 + place): value for place, value in enumerate(others)}


BYTE_LETTERS = _byte_letters()


def spell_tokens(tokens: Sequence[str | None], decoder: Mapping | None, field: str) -> list[bytes]:
    """UTF-8 of each token as it reads inside a text.

    Known are byte-level BPE (GPT-2, Llama 3, Qwen), sentencepiece with or without byte fallback
    (Llama 2, Gemma, Mistral, T5), and tokens joined by spaces (no decoder). At the beginning of a
    text the latter two drop spaces; here the space stays with its token.

    Args:
        tokens: [V] names in the vocabulary, added tokens included: they pass the same steps. None
            for an id that is no text or that names no token.
        decoder: the steps, as in tokenizer.json; None if it has none.
        field: for the error.

    Raises:
        ValueError: for steps that are not known to work token by token.
    """
    spell = _spelling(decoder, field)
    return [b"" if token is None else spell(token) for token in tokens]


def _spelling(decoder: Mapping | None, field: str) -> Callable[[str], bytes]:
    """token -> bytes. Steps must come as: replacements, one way to bytes, fuse, strip."""
    if decoder is None:
        return lambda token: b" " + token.encode("utf-8")
    steps = decoder.get("decoders", [decoder])
    replacements: list[tuple[str, str]] = []
    to_bytes, level = _literal, 0
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": old}, "content": new} if level == 0:
                replacements.append((old, new))
            case {"type": "Metaspace", "replacement": old} if level == 0:
                replacements.append((old, " "))
            case {"type": "ByteLevel"} if level == 0:
                to_bytes, level = _byte_level, 1
            case {"type": "ByteFallback"} if level == 0:
                to_bytes, level = _byte_fallback, 1
            case {"type": "Fuse"} if level <= 1:
                level = 2
            # After the fusion this strips the beginning of the whole text, not of each token.
            case {"type": "Strip", "content": " ", "stop": 0} if level == 2:
                level = 3
            case _:
                kinds = " > ".join(step["type"] for step in steps)
                raise ValueError(
                    f"The bytes of tokens are not known for the decoder {kinds} (stopped at "
                    f"{dict(step)}); known: ByteLevel, Metaspace, Replace > ByteFallback > Fuse "
                    f"> Strip of leading spaces and its parts, none ({field})."
                )

    def spell(token: str) -> bytes:
        for old, new in replacements:
            token = token.replace(old, new)
        return to_bytes(token)

    return spell


def _literal(token: str) -> bytes:
    return token.encode("utf-8")


def _byte_level(token: str) -> bytes:
    """A letter outside of the alphabet, in an added token, makes the whole token literal."""
    try:
        return bytes([BYTE_LETTERS[letter] for letter in token])
    except KeyError:
        return token.encode("utf-8")


def _byte_fallback(token: str) -> bytes:
    value = BYTE_TOKEN.fullmatch(token)
    return bytes([int(value[1], 16)]) if value else token.encode("utf-8")
