"""The turns of an episode as segments."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.slots import segments_from_starts


def turns(mask: Array) -> Array:
    """A segment for each turn of an episode: tokens without a hole between them.

    Args:
        mask: [N, T] bool, False on what is inserted between two turns.

    Returns:
        [N, T] i32; mask 1 1 0 1 0 1 gives 0 0 0 1 1 2.
    """
    before = jnp.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    return segments_from_starts(mask & ~before, mask)
