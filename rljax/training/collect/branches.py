"""Completions that grow piece by piece: the sampler goes on from any of them, with K children."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax import Array

from rljax.models.network import Params
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests, Rollouts, StopReason
from rljax.training.collect.continuations import Prefixes, sample_continuations, with_prefixes

# What a sampler says of each token.
PER_TOKEN = (
    "tokens",
    "logprobs",
    "model_logprobs",
    "tempered_logprobs",
    "entropy",
    "temperature",
)

Piece = Mapping[str, np.ndarray]  # of a call of the sampler: `PER_TOKEN`, [M] each


class Branch(NamedTuple):
    """The beginning of a completion; without a piece it is its prompt alone."""

    prompt: int  # place of the prompt
    pieces: tuple[Piece, ...] = ()
    stop_reason: int = StopReason.PAUSED

    @property
    def tokens(self) -> np.ndarray:
        """[L] i32."""
        return self.joined("tokens") if self.pieces else np.zeros(0, np.int32)

    @property
    def length(self) -> int:
        """L."""
        return sum(len(piece["tokens"]) for piece in self.pieces)

    @property
    def ended(self) -> bool:
        """Whether nothing follows: it ended by itself, or the limit of completions is reached."""
        return self.stop_reason != StopReason.PAUSED

    @property
    def finished(self) -> bool:
        """Whether it ended by itself."""
        return self.ended and self.stop_reason != StopReason.LENGTH

    def joined(self, name: str) -> np.ndarray:
        """[L], a field of `PER_TOKEN` of all its tokens."""
        return np.concatenate([piece[name] for piece in self.pieces])


def grow(
    engine: Engine,
    weights: Params,
    prompts: Requests,
    branches: Sequence[Branch],
    sample_ids: np.ndarray,
    *,
    slots: int,
    rows: int,
    key: Array,
    step: int,
    temperature: float | None = None,
) -> list[list[Branch]]:
    """Samples K children of each branch: the branch, and up to so many tokens as the engine writes.

    Args:
        engine: with K samples per prompt; its `max_new_tokens` is the length of a piece.
        weights: `engine.load`.
        prompts: B prompts with masks and ids.
        branches: S of them, none of which has ended.
        sample_ids: [S, K] i32, address of the noise, which differs by slot besides.
        slots: tokens of a whole completion.
        rows: branches of one call of the engine.
        key: of a random stream (sampling/keys.py).
        step: counted over the run.
        temperature: instead of the engine's; 0 is greedy.

    Returns:
        The children of each branch. One that is paused can grow further.
    """
    if not branches:
        return []
    length = np.array([branch.length for branch in branches], np.int32)
    written = np.zeros((len(branches), max(1, int(length.max()))), np.int32)
    for row, branch in enumerate(branches):
        written[row, : length[row]] = branch.tokens
    prompt = np.array([branch.prompt for branch in branches], np.int32)
    own = Prefixes(prompt, np.arange(len(branches), dtype=np.int32), length)
    tokens, mask = with_prefixes(prompts.prompts, prompts.prompt_mask, written, own)
    ids = np.asarray(sample_ids, np.int32)
    asked = Requests(
        tokens,
        mask,
        prompt_ids=prompts.prompt_ids[prompt],
        sample_ids=ids,
        continued=length,
        temperature=None if temperature is None else np.full(ids.shape, temperature, np.float32),
        max_new_tokens=np.full(ids.shape, slots, np.int32),
    )
    children: list[list[Branch]] = [[] for _ in branches]
    calls = sample_continuations(engine, weights, asked, rows=rows, key=key, step=step)
    for index, found in calls:
        for place, number in enumerate(index):
            children[number] = [
                _child(branches[number], found, (place, k)) for k in range(ids.shape[1])
            ]
    return children


def _child(branch: Branch, found: Rollouts, at: tuple[int, int]) -> Branch:
    kept = found.mask[at]
    piece = {name: getattr(found, name)[at][kept] for name in PER_TOKEN}
    return Branch(branch.prompt, (*branch.pieces, piece), int(found.stop_reason[at]))
