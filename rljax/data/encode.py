"""Texts to padded rows: prompts to the left, completions to the right."""

from collections.abc import Sequence

import numpy as np

from rljax.data.tokenizers import Tokenizer


def encode_prompts(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    max_prompt_tokens: int,
    ids: Sequence[int] | None = None,
    add_bos: bool = False,
    field: str = "config.data.max_prompt_tokens",
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises prompts into left-padded rows, so that every completion starts in slot P.

    Args:
        texts: B prompts.
        tokenizer: gives ids and the padding.
        max_prompt_tokens: P.
        ids: [B] record ids for the error; their place in `texts` by default.
        add_bos: put the tokenizer's bos before each prompt.
        field: the config field of the budget, for the error.

    Returns:
        tokens [B, P] i32 and mask [B, P] bool, True on prompt tokens.

    Raises:
        ValueError: if a prompt is longer than P, or `add_bos` without a bos.
    """
    if add_bos and tokenizer.bos_id is None:
        raise ValueError("This tokenizer has no bos token (config.tokenizer.path).")
    tokens = np.full((len(texts), max_prompt_tokens), tokenizer.pad_id, np.int32)
    mask = np.zeros((len(texts), max_prompt_tokens), bool)
    for row, text in enumerate(texts):
        encoded = tokenizer.encode(text)
        if add_bos:
            encoded = [tokenizer.bos_id, *encoded]
        if len(encoded) > max_prompt_tokens:
            name = row if ids is None else ids[row]
            raise ValueError(
                f"The prompt of record {name} has {len(encoded)} tokens, the budget is "
                f"{max_prompt_tokens} ({field})."
            )
        start = max_prompt_tokens - len(encoded)
        tokens[row, start:] = encoded
        mask[row, start:] = True
    return tokens, mask


def encode_completions(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int,
    append_eos: bool = True,
    ids: Sequence[int] | None = None,
    field: str = "config.<stage>.data.max_completion_tokens",
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises completions into right-padded rows; the eos is inside the mask.

    Args:
        texts: N completions.
        tokenizer: gives ids, eos and the padding.
        max_new_tokens: T.
        append_eos: end every completion with eos.
        ids: [N] record ids for the error; their place in `texts` by default.
        field: the config field of the budget, for the error.

    Returns:
        tokens [N, T] i32 and mask [N, T] bool, True on completion tokens and eos.

    Raises:
        ValueError: if a completion is longer than T.
    """
    tokens = np.full((len(texts), max_new_tokens), tokenizer.pad_id, np.int32)
    mask = np.zeros((len(texts), max_new_tokens), bool)
    for row, text in enumerate(texts):
        encoded = tokenizer.encode(text)
        if append_eos:
            encoded = [*encoded, tokenizer.eos_id]
        if len(encoded) > max_new_tokens:
            name = row if ids is None else ids[row]
            raise ValueError(
                f"The completion of record {name} has {len(encoded)} tokens (eos included), the "
                f"budget is {max_new_tokens} ({field})."
            )
        tokens[row, : len(encoded)] = encoded
        mask[row, : len(encoded)] = True
    return tokens, mask
