"""Samples that go on from the beginnings of completions, in token ids, so many at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from rljax.models.network import Params
from rljax.sampling.engine import Engine, fill_rows
from rljax.sampling.request import Requests, Rollouts
from rljax.training.run.phases import phase


class Prefixes(NamedTuple):
    """S beginnings of completions of a step. NumPy, all [S] i32."""

    prompt: np.ndarray  # place of the prompt in the step
    row: np.ndarray  # the completion that it is the beginning of
    length: np.ndarray  # of its tokens; 0 is the prompt alone


def with_prefixes(
    prompts: np.ndarray, prompt_mask: np.ndarray, completions: np.ndarray, prefixes: Prefixes
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts with what has been written after them. Nothing is tokenised anew.

    Args:
        prompts: [B, P] i32, padded on the left; prompt_mask: [B, P] bool.
        completions: [N, T] i32, padded on the right.
        prefixes: S of them.

    Returns:
        [S, P + L] i32, padded on the left, and their mask; L is the longest prefix.
    """
    slots, longest = prompts.shape[1], int(prefixes.length.max())
    # Of each column: its place after the end of the prompt, negative inside of the prompt.
    place = np.arange(slots + longest) - (slots + longest - prefixes.length[:, None])
    row, prompt = prefixes.row[:, None], prefixes.prompt[:, None]
    written = completions[row, np.clip(place, 0, completions.shape[1] - 1)]
    own = np.maximum(slots + place, 0)
    before = np.minimum(own, slots - 1)
    tokens = np.where(place >= 0, written, prompts[prompt, before])
    present = (place >= 0) | (slots + place >= 0) & prompt_mask[prompt, before]
    return tokens.astype(np.int32), present


def sample_continuations(
    engine: Engine,
    weights: Params,
    requests: Requests,
    *,
    rows: int,
    key: jax.Array,
    step: int,
) -> Iterator[tuple[np.ndarray, Rollouts]]:
    """Answers requests `rows` of them at a time: memory and programs do not depend on how many.

    The shortest come first, so that a call is no longer than it has to be. Which others are in a
    call changes no sample.

    Args:
        engine: with as many samples per prompt as the requests have.
        weights: `engine.load`.
        requests: S of them, with `continued`, `sample_ids` and `max_new_tokens`.
        rows: of a call; the last one is filled with rows that end after a token.
        key: of a random stream (sampling/keys.py).
        step: counted over the run.

    Yields:
        The places of a call's requests, and their rollouts.
    """
    order = np.argsort(requests.prompt_mask.sum(axis=1), kind="stable")
    for start in range(0, len(order), rows):
        index = order[start : start + rows]
        part = fill_rows(_take(requests, index), rows)
        limits = part.max_new_tokens.copy()
        limits[len(index) :] = part.continued[len(index) :, None] + 1
        part = part._replace(max_new_tokens=limits)
        with phase("sampling"):
            rollouts = engine.sample(weights, part, key=key, step=step)
        yield index, _take(rollouts, slice(len(index)))


def _take(arrays: Rollouts | Requests, index: np.ndarray | slice) -> Rollouts | Requests:
    return jax.tree.map(lambda x: x[index], arrays)
