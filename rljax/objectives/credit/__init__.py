"""Credit inside a sample: which tokens earned the reward, and what states are worth.

| file | what it holds |
| --- | --- |
| `slots.py` | ranks, ends and neighbours of True slots; segment numbers from boundaries |
| `gae.py` | generalised advantage estimation over tokens, rows that were cut off |
| `component_gae.py` | the same for each of several rewards, and a critic's heads for them |
| `outcomes.py` | the score of a sample as rewards of its tokens |
| `macro_actions.py` | macro actions: n-grams, random lengths, perplexity |
| `macro_gae.py` | values, rewards, advantages and value targets of macro actions |
| `cuts.py` | states whose value is estimated by rollouts; `CUTS` |
| `segment_values.py` | Monte-Carlo values and the advantages of the segments between them |
| `search_values.py` | advantages of the segments of searched trajectories |
| `segment_ratio.py` | importance ratio of a macro action |
| `trajectory.py` | the steps in which masked diffusion filled the tokens |
| `turns.py` | the turns of an episode |
| `tree.py` | values and edge advantages of sampling trees |

A part of `SEGMENTATIONS` gives every token the number of its segment, [N, T] i32, from 0 in each
row. Numbers on False slots of the mask mean nothing.
"""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.cuts import CUTS, spaced, steps, uncertain
from rljax.objectives.credit.macro_actions import falling_perplexity, ngrams, random_ngrams
from rljax.objectives.credit.trajectory import trajectory
from rljax.objectives.credit.turns import turns


def none(mask: Array) -> Array:
    """One segment: the whole row.

    Args:
        mask: [N, T] bool.

    Returns:
        [N, T] i32, zeros.
    """
    return jnp.zeros(mask.shape, jnp.int32)


SEGMENTATIONS = {
    "none": none,
    "turns": turns,
    "ngrams": ngrams,
    "random_ngrams": random_ngrams,
    "falling_perplexity": falling_perplexity,
    "uncertain": uncertain,
    "spaced": spaced,
    "steps": steps,
    "trajectory": trajectory,
}

__all__ = ["CUTS", "SEGMENTATIONS"]
