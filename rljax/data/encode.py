"""Texts to padded rows: prompts to the left, completions to the right."""

from collections.abc import Sequence

import numpy as np

from rljax.data.tokenizers import Tokenizer

TOO_LONG = ("error", "drop", "truncate")


def encode_prompts(
    texts: Sequence[str | Sequence[int]],
    tokenizer: Tokenizer,
    *,
    max_prompt_tokens: int,
    ids: Sequence[int] | None = None,
    add_bos: bool = False,
    field: str = "config.data.max_prompt_tokens",
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises prompts into left-padded rows, so that every completion starts in slot P.

    Args:
        texts: B prompts, as text or as token ids.
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
        encoded = _token_ids(text, tokenizer)
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
    texts: Sequence[str | Sequence[int]],
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int,
    append_eos: bool = True,
    too_long: str = "error",
    ids: Sequence[int] | None = None,
    field: str = "config.<stage>.data.max_completion_tokens",
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises completions into right-padded rows; the eos is inside the mask.

    Args:
        texts: N completions, as text or as token ids.
        tokenizer: gives ids, eos and the padding.
        max_new_tokens: T.
        append_eos: end every completion with eos.
        too_long: "error"; "drop", the row's mask is all False; or "truncate", the first T tokens.
        ids: [N] record ids for the error; their place in `texts` by default.
        field: the config field of the budget, for the error.

    Returns:
        tokens [N, T] i32 and mask [N, T] bool, True on completion tokens and eos.

    Raises:
        ValueError: if a completion is longer than T and `too_long` is "error".
    """
    if too_long not in TOO_LONG:
        raise ValueError(
            f"Unknown too_long {too_long!r}; known: {', '.join(TOO_LONG)} (an argument)."
        )
    tokens = np.full((len(texts), max_new_tokens), tokenizer.pad_id, np.int32)
    mask = np.zeros((len(texts), max_new_tokens), bool)
    for row, text in enumerate(texts):
        encoded = _token_ids(text, tokenizer)
        if append_eos:
            encoded = [*encoded, tokenizer.eos_id]
        if len(encoded) > max_new_tokens:
            if too_long == "drop":
                continue
            if too_long == "error":
                name = row if ids is None else ids[row]
                raise ValueError(
                    f"The completion of record {name} has {len(encoded)} tokens (eos included), "
                    f"the budget is {max_new_tokens} ({field})."
                )
            encoded = encoded[:max_new_tokens]
        tokens[row, : len(encoded)] = encoded
        mask[row, : len(encoded)] = True
    return tokens, mask


def _token_ids(text: str | Sequence[int], tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(text) if isinstance(text, str) else [int(i) for i in text]
