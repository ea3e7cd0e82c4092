"""Segments of a sample of masked diffusion: the steps in which its tokens were filled."""

import functools

import jax
from jax import Array

from rljax.objectives.masking import trajectory_runs


def trajectory(mask: Array, fill_steps: Array, *, trajectory_shrink: int = 1) -> Array:
    """The run of steps that each token was filled in, as masking='trajectory' scores it (TraceRL).

    Tokens of a run need not be neighbours.

    Args:
        mask: [N, T] bool.
        fill_steps: [N, T] i32, step of the sampler.
        trajectory_shrink: steps of a run.

    Returns:
        [N, T] i32, from 0 in the order of the sampler.
    """
    return jax.vmap(functools.partial(trajectory_runs, shrink=trajectory_shrink))(fill_steps, mask)
