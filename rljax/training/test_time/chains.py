"""Attempts one behind the other: each reads its prompt, the attempts before it, and a text between.

A chain is what a sequential budget buys; so many samples beside each other, a parallel one
(arXiv:2408.03314, section 6). That a text such as "Wait" makes a model go on is budget forcing
(arXiv:2501.19393).
"""

from collections.abc import Sequence

import numpy as np
from jax import Array

from rljax.data.encode import pad_prompts
from rljax.models.network import Params
from rljax.sampling.engine import Engine, bucket
from rljax.sampling.request import Requests, StopReason
from rljax.training.collect.branches import Branch, grow


def first_attempts(attempts: Sequence[int], budget: int) -> list[int]:
    """How many chains have an n-th attempt, n = 1, 2, ..., where `budget` completions are spent.

    Chains of every length of `attempts` are looked at, so the shorter ones are the beginnings of
    the longer ones. Example: lengths 1, 2 and 4 at a budget of 8 give 8, 4, 2, 2.
    """
    return [
        max(budget // length for length in attempts if length >= number)
        for number in range(1, max(attempts) + 1)
    ]


def next_attempts(
    engine: Engine,
    weights: Params,
    prompts: Sequence[Sequence[int]],
    chains: Sequence[tuple[int, Sequence[Branch]]],
    *,
    again: Sequence[int],
    prompt_ids: np.ndarray,
    sample_ids: np.ndarray,
    slots: int,
    rows: int,
    pad: int,
    key: Array,
    step: int,
) -> list[Branch]:
    """One more attempt of each chain.

    Args:
        engine: with one sample per prompt.
        weights: `engine.load`.
        prompts: ids of B prompts.
        chains: C of them: the place of the prompt, and the attempts so far.
        again: ids between two attempts.
        prompt_ids: [B] i32, address of the noise.
        sample_ids: [C] i32, the same.
        slots: tokens of an attempt, at most.
        rows: chains of a call of the engine.
        pad: fills rows.
        key: of a random stream.
        step: of the noise.
    """
    read = [
        [*prompts[place], *(token for done in attempts for token in (*said(done), *again))]
        for place, attempts in chains
    ]
    tokens, mask = pad_prompts(read, pad, max_prompt_tokens=bucket(max(map(len, read))))
    asked = Requests(tokens, mask, prompt_ids[[place for place, _ in chains]])
    begun = [Branch(row) for row in range(len(chains))]
    found = grow(
        engine,
        weights,
        asked,
        begun,
        sample_ids[:, None],
        slots=slots,
        rows=rows,
        key=key,
        step=step,
    )
    return [attempt for (attempt,) in found]


def said(attempt: Branch) -> list[int]:
    """The tokens of an attempt without the one that ended it: the chain goes on."""
    tokens = attempt.tokens.tolist()
    return tokens[:-1] if attempt.stop_reason == StopReason.STOP_TOKEN else tokens
