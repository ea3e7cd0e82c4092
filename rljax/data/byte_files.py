"""A byte tokenizer and a plain chat template as the files of a Hugging Face folder."""

import json
from pathlib import Path
from typing import Any

from rljax.data.tokenizers import ByteTokenizer

# Names of the ids that are no text, in the order of the ids.
CONTROL = ("<pad>", "<bos>", "<eos>")


def write_byte_tokenizer(folder: Path, tokenizer: ByteTokenizer) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    transformers reads the same ids from texts, and the same texts from ids.

    Args:
        folder: that exists.
        tokenizer: with its special tokens, which stay one id each.
    """
    _write(folder / "tokenizer.json", _tokenizer(tokenizer))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
        **{f"{name[1:-1]}_token": name for name in CONTROL},
    }
    _write(folder / "tokenizer_config.json", config)


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _tokenizer(tokenizer: ByteTokenizer) -> dict[str, Any]:
    """BPE without merges: every byte is a token of its own."""
    letters = byte_letters()
    names = [*letters, *CONTROL, *tokenizer.special_tokens]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": names[index], "special": index < 256 + len(CONTROL), **plain}
        for index in range(256, len(names))
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": False},
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {name: index for index, name in enumerate(names)},
            "merges": [],
        },
    }


def byte_letters() -> list[str]:
    """The letter that stands for each byte in byte-level BPE, as GPT-2 chose them.

    A byte that is a printable letter of Latin-1 stands for itself, the others for the letters from
    U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, others = [], 0
    for byte in range(256):
        letters.append(chr(byte if byte in printable else 0x100 + others))
        others += byte not in printable
    return letters


def write_chat_template(folder: Path, turn: str, opening: str) -> None:
    """Writes chat_template.jinja, which renders as a `PlainTemplate` does (data/chat.py).

    Args:
        folder: that exists.
        turn: config.tokenizer.chat_turn.
        opening: config.tokenizer.chat_generation_prompt.
    """
    path = folder / "chat_template.jinja"
    path.write_text(_template(turn, opening), encoding="utf-8")


def _template(turn: str, opening: str) -> str:
    head, tail = (part.split("{role}") for part in turn.split("{content}", 1))
    role = " + message['role'] + "
    pieces = [role.join(map(_quoted, part)) for part in (head, tail)]
    message = " + message['content'] + ".join(pieces)
    return (
        "{% for message in messages %}{{ " + message + " }}{% endfor %}"
        "{% if add_generation_prompt %}{{ " + _quoted(opening) + " }}{% endif %}"
    )


def _quoted(text: str) -> str:
    return json.dumps(text)
