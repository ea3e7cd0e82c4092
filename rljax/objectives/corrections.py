"""Sampler and trainer differ: importance weights and rejection."""

import jax.numpy as jnp
from jax import Array


def none(mask: Array) -> tuple:
    """No correction: weights 1, everything kept. [N, T] bool -> ([N, T] f32, [N, T] bool, {})."""
    return jnp.ones(mask.shape), mask, {}


CORRECTIONS = {"none": none}
