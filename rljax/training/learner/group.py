"""A step's completions by prompt, on the host or on the device, and the arrays made of them."""

from typing import NamedTuple

import numpy as np
from jax import Array

from rljax.training.update.rows import namespace

Rows = np.ndarray | Array


class Group(NamedTuple):
    """B prompts with R completions each."""

    tokens: Rows  # [B, R, T] i32
    mask: Rows  # [B, R, T] bool
    logprobs: Rows  # [B, R, T] f32, as sampled; 0 of demonstrations
    finished: Rows  # [B, R] bool
    scores: Rows  # [B, R] f32
    correct: Rows  # [B, R] bool
    demonstration: Rows | None = None  # [B, R] bool, not sampled from the prompt alone


def with_demonstrations(group: Group, tokens: Rows, mask: Rows, scores: Rows) -> Group:
    """One row more for each prompt, at the end of its group: a right one that nobody sampled.

    Args:
        group: of B prompts.
        tokens: [B, T'] i32, T' <= T.
        mask: [B, T'] bool.
        scores: [B] f32, what the verifier says of them.
    """
    xp = namespace(group.mask)
    prompts, _, length = group.tokens.shape

    def fit(x: Rows) -> Rows:
        return xp.pad(x, ((0, 0), (0, length - x.shape[1])))[:, None]

    one = xp.ones((prompts, 1), bool)
    more = Group(
        tokens=fit(tokens),
        mask=fit(mask),
        logprobs=xp.zeros((prompts, 1, length), np.float32),
        finished=one,
        scores=scores[:, None].astype(np.float32),
        correct=one,
    )
    return with_rows_beside(group, more)


def with_rows_beside(group: Group, more: Group) -> Group:
    """Rows of the same prompts that the policy did not sample from them, behind those that it did.

    Args:
        group: of B prompts, R rows each.
        more: of the same prompts, of the same length.
    """
    xp = namespace(group.mask)
    pairs = zip(group[:-1], more[:-1], strict=True)
    joined = [xp.concatenate([own, new], axis=1) for own, new in pairs]
    samples, rows = group.scores.shape[1], joined[0].shape[1]
    shown = xp.broadcast_to(xp.arange(rows) >= samples, (len(joined[0]), rows))
    return Group(*joined, demonstration=shown)


def step_arrays(group: Group) -> dict[str, Rows]:
    """The arrays of a step by name (objectives/arrays.py), [N] and [N, T]."""
    prompts, rows, _ = group.tokens.shape
    names = {"logprobs": "behavior_logprobs"}
    arrays = {
        names.get(name, name): array.reshape(prompts * rows, *array.shape[2:])
        for name, array in group._asdict().items()
        if array is not None
    }
    xp = namespace(group.mask)
    arrays["group_ids"] = xp.repeat(xp.arange(prompts, dtype=np.int32), rows)
    return arrays
