"""Verdict on 4 x 4 Sudoku."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from rljax.tasks.symbols.alphabet import ZERO_ID
from rljax.tasks.symbols.task import Verdict
from rljax.verifiers.text import read_content


def verify(facts: Mapping[str, Array], tokens: Array, mask: Array) -> Verdict:
    """Reward: share of the empty cells that are right; correct: all right and the givens kept.

    Anything but 16 digits 1 .. 4 and an eos gets 0.

    Args:
        facts: of one problem, puzzle [16] and solution [16] (tasks/symbols/sudoku4.py).
        tokens: [T] i32, one completion.
        mask: [T] bool, True on sampled tokens, the eos included.
    """
    puzzle, solution = facts["puzzle"], facts["solution"]
    content = read_content(tokens, mask)
    cells = jnp.zeros_like(solution)
    shared = min(cells.shape[0], tokens.shape[0])
    cells = cells.at[:shared].set(content.tokens[:shared] - ZERO_ID)
    digits = jnp.all((cells >= 1) & (cells <= 4))
    well_formed = content.finished & (content.length == cells.shape[0]) & digits
    empty, right = puzzle == 0, cells == solution
    share = jnp.sum(empty & right) / jnp.maximum(jnp.sum(empty), 1)
    reward = jnp.where(well_formed, share, 0.0)
    return Verdict(reward.astype(jnp.float32), well_formed & jnp.all(right), {})
