"""Ids to padded rows: prompts to the left, completions to the right."""

from collections.abc import Sequence

import numpy as np


def pad_prompts(
    prompts: Sequence[Sequence[int]], pad_id: int, *, max_prompt_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as left-padded rows, so that every completion starts in slot P.

    Args:
        prompts: ids of B prompts.
        pad_id: fills the rest; the mask, not this id, says what counts.
        max_prompt_tokens: P.

    Returns:
        tokens [B, P] i32 and mask [B, P] bool, True on prompt tokens.

    Raises:
        ValueError: if a prompt is longer than P.
    """
    tokens = np.full((len(prompts), max_prompt_tokens), pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, ids in enumerate(prompts):
        check_length(ids, max_prompt_tokens, f"Prompt {row}", "config.data.max_prompt_tokens")
        start = max_prompt_tokens - len(ids)
        tokens[row, start:], mask[row, start:] = ids, True
    return tokens, mask


def pad_completions(
    completions: Sequence[Sequence[int]], pad_id: int, *, max_new_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Completions as right-padded rows; their ends are inside the mask.

    Args:
        completions: ids of N completions, each with the id that ends it.
        pad_id: fills the rest; the mask, not this id, says what counts.
        max_new_tokens: T.

    Returns:
        tokens [N, T] i32 and mask [N, T] bool, True on completion tokens.

    Raises:
        ValueError: if a completion is longer than T.
    """
    tokens = np.full((len(completions), max_new_tokens), pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, ids in enumerate(completions):
        field = "config.<stage>.data.max_completion_tokens"
        check_length(ids, max_new_tokens, f"Completion {row}", field)
        tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
    return tokens, mask


def check_length(ids: Sequence[int], budget: int, what: str, field: str) -> None:
    """Raises ValueError for more tokens than there is room for.

    Args:
        ids: tokens.
        budget: how many there may be.
        what: whose, for the error.
        field: the config field of the budget.
    """
    if len(ids) > budget:
        raise ValueError(f"{what} has {len(ids)} tokens, at most {budget} are allowed ({field}).")
