"""Prompts of a generator as the arrays of one call of an engine."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.sampling.completion import Completion
from rljax.sampling.options import SamplingOptions
from rljax.sampling.request import Requests


class Prompt(NamedTuple):
    """One prompt and what is asked for it."""

    tokens: tuple[int, ...]
    options: SamplingOptions
    seed: int
    prompt_id: int
    sample_ids: tuple[int, ...]
    written: Completion | None = None  # of the one sample, to be continued

    @property
    def continued(self) -> int:
        """Tokens that have been written already."""
        return 0 if self.written is None else len(self.written.tokens)

    @property
    def room(self) -> int:
        """Tokens that may be written now."""
        return self.options.max_new_tokens - self.continued


def row_count(prompts: int, most: int, shards: int) -> int:
    """Rows of a call, so that few programs are compiled: a power of 2, at most `most`.

    Args:
        prompts: in 1..most.
        most: in one call.
        shards: of rows; the result is a multiple.
    """
    rows = min(2 ** math.ceil(math.log2(prompts)), most)
    return math.ceil(rows / shards) * shards


def make_requests(prompts: Sequence[Prompt], rows: int, shards: int) -> tuple[Requests, np.ndarray]:
    """Requests of `rows` prompts: those given, and others that end with their first token.

    Prompts are dealt out to the shards of rows in turn, so that each gets equally many.

    Args:
        prompts: at least one; all with the same static options, all or none to be continued.
        rows: B, at least as many, a multiple of the shards.
        shards: of the mesh.

    Returns:
        NumPy arrays, and the row of each prompt [len(prompts)].
    """
    first, group = prompts[0], len(prompts[0].sample_ids)
    options = SamplingOptions(n=group, max_new_tokens=1)
    filler = Prompt(first.tokens[:1], options, 0, 0, tuple(range(group)))
    dealt = np.arange(rows).reshape(-1, shards).T.ravel()
    ordered = [prompts[i] if i < len(prompts) else filler for i in dealt]

    def each(values: list, kind: type) -> np.ndarray:
        """[B] values of prompts -> [B, G], the same for all samples."""
        return np.repeat(np.array(values, kind)[:, None], group, axis=1)

    tokens, mask = _left_padded(ordered)
    of_options = [prompt.options for prompt in ordered]
    follows = first.options.entropy_temperature is not None
    shortest = [options.min_new_tokens for options in of_options]
    requests = Requests(
        prompts=tokens,
        prompt_mask=mask,
        prompt_ids=np.array([prompt.prompt_id for prompt in ordered], np.int32),
        sample_ids=np.array([prompt.sample_ids for prompt in ordered], np.int32),
        continued=None
        if first.written is None
        else np.array([prompt.continued for prompt in ordered], np.int32),
        temperature=None
        if follows
        else each([options.temperature for options in of_options], np.float32),
        min_new_tokens=each(shortest, np.int32) if any(shortest) else None,
        max_new_tokens=each([options.max_new_tokens for options in of_options], np.int32),
    )
    return requests, np.argsort(dealt)[: len(prompts)]


def _left_padded(prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [B, P] i32, what has been written at their end, and their mask."""
    rows = [p.tokens if p.written is None else p.tokens + p.written.tokens for p in prompts]
    slots = max(map(len, rows))
    tokens, mask = np.zeros((len(rows), slots), np.int32), np.zeros((len(rows), slots), bool)
    for row, ids in enumerate(rows):
        tokens[row, slots - len(ids) :] = ids
        mask[row, slots - len(ids) :] = True
    return tokens, mask
