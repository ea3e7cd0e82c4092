"""Prompts and completions as rows, in one of two layouts.

Separate rows [N, S], S = P + T, one for each completion: [padding, prompt | completion, padding].

Group rows [B, P + G * T], one for each prompt: [padding, prompt | completion 1 | ... | completion
G], where every completion continues the prompt and sees nothing of the others
(models/attention/), so that the prompt is computed once for all of them.

Both give the same loss and gradient; only routers of experts count a prompt once instead of G
times. What belongs to completions is [N, T] in the one layout, [B, G, T] in the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.training.update.logprobs import model_rows

Rows = dict[str, np.ndarray]


def completion_rows(
    prompts: np.ndarray,
    prompt_mask: np.ndarray,
    completions: np.ndarray,
    mask: np.ndarray,
    inserted: np.ndarray | None = None,
) -> Rows:
    """Separate rows: every completion after its prompt.

    Args:
        prompts: [N, P] i32, padded on the left; prompt_mask: [N, P] bool.
        completions: [N, T] i32, padded on the right; mask: [N, T] bool.
        inserted: [N, T] bool, tokens of a completion that are read and have no loss.

    Returns:
        tokens, positions, segment_ids [N, S] i32 and mask [N, T] bool. Padding has segment 0.
    """
    more = None if inserted is None else inserted[:, None]
    rows = group_rows(prompts, prompt_mask, completions[:, None], mask[:, None], more)
    return rows | {"mask": mask}


def group_rows(
    prompts: np.ndarray,
    prompt_mask: np.ndarray,
    completions: np.ndarray,
    mask: np.ndarray,
    inserted: np.ndarray | None = None,
) -> Rows:
    """Group rows: all completions of a prompt after it, one behind the other.

    Prompt a b with completions x and y z, P = 3, T = 2: tokens . a b x . y z, positions
    0 0 1 2 2 2 3, segments 0 1 1 1 0 1 1.

    Args:
        prompts: [B, P] i32, padded on the left; prompt_mask: [B, P] bool.
        completions: [B, G, T] i32, padded on the right; mask: [B, G, T] bool.
        inserted: [B, G, T] bool, tokens of a completion that are read and have no loss.

    Returns:
        tokens, positions, segment_ids [B, P + G * T] i32 and mask [B, G, T] bool. Positions of a
        completion count on from the prompt's. Padding has segment 0.
    """
    xp = namespace(mask)
    count = len(prompts)
    lengths = prompt_mask.sum(axis=1)
    read = mask if inserted is None else mask | inserted
    own = lengths[:, None, None] + xp.cumsum(read, axis=2) - 1
    positions = [xp.cumsum(prompt_mask, axis=1) - 1, own.reshape(count, -1)]
    present = xp.concatenate([prompt_mask, read.reshape(count, -1)], axis=1)
    tokens = xp.concatenate([prompts, completions.reshape(count, -1)], axis=1)
    return {
        "tokens": tokens.astype(np.int32),
        "positions": xp.maximum(xp.concatenate(positions, axis=1), 0).astype(np.int32),
        "segment_ids": present.astype(np.int32),
        "mask": mask,
    }


def namespace(array: np.ndarray | Array) -> Any:
    """numpy on the host, jax.numpy inside a compiled program."""
    return jnp if isinstance(array, Array) else np


def rollout_rows(
    prompts: np.ndarray,
    prompt_mask: np.ndarray,
    completions: np.ndarray,
    mask: np.ndarray,
    inserted: np.ndarray | None = None,
    *,
    share_prompts: bool,
) -> Rows:
    """Group rows, or the same completions as separate rows (row b * G + g is sample g of prompt b).

    Args:
        prompts, prompt_mask, completions, mask, inserted: as for `group_rows`.
        share_prompts: the layout.
    """
    if share_prompts:
        return group_rows(prompts, prompt_mask, completions, mask, inserted)
    group, length = mask.shape[1:]
    repeat = namespace(mask).repeat
    return completion_rows(
        repeat(prompts, group, axis=0),
        repeat(prompt_mask, group, axis=0),
        completions.reshape(-1, length),
        mask.reshape(-1, length),
        None if inserted is None else inserted.reshape(-1, length),
    )


def per_sample(array: np.ndarray | Array) -> np.ndarray | Array:
    """[N, T] or [B, G, T] -> [N, T]: one row for each completion, whatever the layout."""
    return array.reshape(-1, array.shape[-1])


def per_row(array: np.ndarray | Array) -> np.ndarray | Array:
    """[N] or [B, G] -> [N]: one number for each completion, whatever the layout."""
    return array.reshape(-1)


def lead_with_prompts(rows: Rows, samples_per_prompt: int) -> Rows:
    """Separate rows [B * G, ...] -> [B, G, ...]; group rows lead with the prompt anyway."""
    if rows["mask"].ndim == 3:
        return rows
    shape = (-1, samples_per_prompt)
    return {name: array.reshape(*shape, *array.shape[1:]) for name, array in rows.items()}


def model_inputs(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The rows to run of a batch that leads with prompts; undoes `lead_with_prompts`."""
    rows = model_rows(batch)
    separate = rows["tokens"].ndim == 3
    return {name: per_sample(array) for name, array in rows.items()} if separate else rows


def take_rows(rows: Rows, index: Sequence[int] | np.ndarray) -> Rows:
    """The rows with these indices, of every array."""
    return {name: array[index] for name, array in rows.items()}


def update_order(
    count: int, *, rows_per_update: int, epochs: int, seed: Sequence[int], unit: int = 1
) -> np.ndarray:
    """Which rows of a step are in which of its updates, in an order drawn from `seed`.

    With a single batch the order stays as it is.

    Args:
        count: rows of a step.
        rows_per_update: rows of a batch.
        epochs: times that each row is in a batch.
        seed: of the order.
        unit: rows next to each other that stay together; divides `rows_per_update`.

    Returns:
        [updates, rows_per_update] i32.
    """
    if epochs == 1 and rows_per_update == count:
        return np.arange(count, dtype=np.int32)[None]
    batches = []
    for epoch in range(epochs):
        order = np.random.default_rng([*seed, epoch]).permutation(count // unit)
        order = order[:, None] * unit + np.arange(unit)
        batches.append(order.reshape(-1, rows_per_update))
    return np.concatenate(batches).astype(np.int32)
