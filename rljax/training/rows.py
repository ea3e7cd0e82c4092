"""Prompts and completions as rows [N, S], S = P + T: [padding, prompt | completion, padding]."""

from collections.abc import Sequence

import numpy as np

Rows = dict[str, np.ndarray]


def completion_rows(
    prompts: np.ndarray, prompt_mask: np.ndarray, completions: np.ndarray, mask: np.ndarray
) -> Rows:
    """Joins prompts and completions.

    Args:
        prompts: [N, P] i32, padded on the left; prompt_mask: [N, P] bool.
        completions: [N, T] i32, padded on the right; mask: [N, T] bool.

    Returns:
        tokens, positions, segment_ids [N, S] i32 and mask [N, T] bool. Padding has segment 0.
    """
    present = np.concatenate([prompt_mask, mask], axis=1)
    return {
        "tokens": np.concatenate([prompts, completions], axis=1).astype(np.int32),
        "positions": np.maximum(np.cumsum(present, axis=1) - 1, 0).astype(np.int32),
        "segment_ids": present.astype(np.int32),
        "mask": mask,
    }


def place_at_last_token(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Outcome rewards [N] -> per-token rewards [N, T] f32, on the last True slot of each row."""
    rewards = np.zeros(mask.shape, np.float32)
    present = mask.any(axis=1)
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    rewards[present, last[present]] = values[present]
    return rewards


def take_rows(rows: Rows, index: Sequence[int] | np.ndarray) -> Rows:
    """The rows with these indices, of every array."""
    return {name: array[index] for name, array in rows.items()}


def update_batches(
    rows: Rows, *, rows_per_update: int, epochs: int, seed: Sequence[int]
) -> list[Rows]:
    """Cuts a step's rows into the batches of its updates, in an order drawn from `seed`.

    With a single batch the order stays as it is.
    """
    count = len(rows["mask"])
    if epochs == 1 and rows_per_update == count:
        return [rows]
    batches = []
    for epoch in range(epochs):
        order = np.random.default_rng([*seed, epoch]).permutation(count)
        parts = order.reshape(-1, rows_per_update)
        batches += [take_rows(rows, part) for part in parts]
    return batches
