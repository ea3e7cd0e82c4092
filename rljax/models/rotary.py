"""Rotary positions (arXiv:2104.09864): frequencies, their scalings, and the rotation itself.

Sines and cosines are computed once per forward pass and shared by all layers of a kind.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.models.config import ModelConfig, RopeScaling


class Rotation(NamedTuple):
    """Cosine and sine of each pair's angle, [N, S, h/2] f32."""

    cos: Array
    sin: Array


class Rotary(NamedTuple):
    """The rotations of the two kinds of layers; `local_layers` is None where they are the same."""

    global_layers: Rotation
    local_layers: Rotation | None

    def of(self, is_global: Array) -> Rotation:
        """The rotation of one layer; `is_global` is a [] bool."""
        if self.local_layers is None:
            return self.global_layers
        choose = functools.partial(jnp.where, is_global)
        return jax.tree.map(choose, self.global_layers, self.local_layers)


def frequencies(
    base: float, head_dim: int, scaling: RopeScaling | None
) -> tuple[np.ndarray, float]:
    """Radians per position of each pair, [h/2] f32, and what multiplies cosines and sines."""
    frequency = base ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    factor = 1.0
    if scaling is not None:
        frequency, factor = _SCALINGS[scaling.kind](frequency, scaling, base)
    return frequency.astype(np.float32), factor


def _linear(frequency: np.ndarray, scaling: RopeScaling, base: float) -> tuple[np.ndarray, float]:
    return frequency / scaling.factor, 1.0


def _llama3(frequency: np.ndarray, scaling: RopeScaling, base: float) -> tuple[np.ndarray, float]:
    """Pairs by how often they turn in the original context: often, seldom, or between."""
    turns = scaling.original_positions * frequency / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return kept * frequency + (1 - kept) * frequency / scaling.factor, 1.0


def _yarn(frequency: np.ndarray, scaling: RopeScaling, base: float) -> tuple[np.ndarray, float]:
    """Equation 14 of arXiv:2309.00071, with the ramp over pair indices as in its code."""
    pairs = len(frequency)

    def pair_of(rotations: float) -> float:
        turns = scaling.original_positions / (rotations * 2 * math.pi)
        return pairs * math.log(turns) / math.log(base)

    low = max(math.floor(pair_of(scaling.beta_fast)), 0)
    high = min(math.ceil(pair_of(scaling.beta_slow)), 2 * pairs - 1)
    slowed = np.clip((np.arange(pairs) - low) / max(high - low, 1e-3), 0.0, 1.0)
    scaled = slowed * frequency / scaling.factor + (1 - slowed) * frequency
    return scaled, scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0


_SCALINGS = {"linear": _linear, "llama3": _llama3, "yarn": _yarn}


def rotary(config: ModelConfig, positions: Array) -> Rotary:
    """The rotations of all tokens; positions [N, S] i32."""

    def rotation(base: float, scaling: RopeScaling | None) -> Rotation:
        frequency, factor = frequencies(base, config.head_dim, scaling)
        angle = positions[..., None].astype(jnp.float32) * frequency
        return Rotation(jnp.cos(angle) * factor, jnp.sin(angle) * factor)

    local = rotation(config.local_rope_base, None) if config.local_rope_base else None
    return Rotary(rotation(config.rope_base, config.rope_scaling), local)


def rotate(x: Array, rotation: Rotation) -> Array:
    """Turns the pairs (i, i + h/2) of x [N, S, heads, h]; computed in float32, dtype kept."""
    cos, sin = rotation.cos[:, :, None], rotation.sin[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
