"""Tokenizer folders as published models have them, small: one token a byte, and control tokens."""

from pathlib import Path

import pytest

CONTROL = ("<pad>", "<bos>", "<eos>", "<|start|>", "<|end|>")
PAD, BOS, EOS, START, END = range(len(CONTROL))

CHATML = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\\n' + m['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)


def write_tokenizer(folder: Path, template: str = CHATML, *, begins_with_bos: bool = False) -> Path:
    """Writes a fast tokenizer; byte b of a text has the id 5 + b.

    Args:
        folder: to be made.
        template: of chats; "" for none.
        begins_with_bos: whether it puts bos before a text.
    """
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    names = [*CONTROL, *(letters[byte] for byte in range(256))]
    inner = tokenizers.Tokenizer(
        tokenizers.models.BPE({name: index for index, name in enumerate(names)}, [])
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens(list(CONTROL))
    if begins_with_bos:
        inner.post_processor = tokenizers.processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", BOS)]
        )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    fast.chat_template = template or None
    fast.save_pretrained(folder)
    return folder


def ids_of(text: str) -> list[int]:
    """The ids of a text with control tokens in it."""
    for index, name in enumerate(CONTROL):
        before, found, after = text.partition(name)
        if found:
            return [*ids_of(before), index, *ids_of(after)]
    return [5 + byte for byte in text.encode()]
