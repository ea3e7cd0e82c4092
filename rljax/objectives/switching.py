"""Demonstrations where the policy fails, reinforcement where it succeeds."""

import jax
import jax.numpy as jnp
from jax import Array


def switched_rows(
    correct: Array,
    mask: Array,
    group_ids: Array,
    demonstration: Array,
    *,
    switch_threshold: float = 0.0,
) -> Array:
    """Which rows a step trains on: samples, or a demonstration (HPT, arXiv:2509.04419).

    P is the share of right samples of a prompt. Where P <= threshold, only the demonstration is
    trained on; where P > threshold, only the samples are. A threshold below 0 is pure reinforcement
    learning, 1 is pure supervised learning. A prompt without a demonstration keeps its samples, and
    one without a sample that was judged is not trained on.

    Args:
        correct: [N] bool; not read on demonstrations.
        mask: [N, T] bool, tokens of all samples and demonstrations, before anything narrows it.
        group_ids: [N] i32.
        demonstration: [N] bool.
        switch_threshold: in shares of right samples.

    Returns:
        [N] bool.
    """
    rows = len(correct)
    _, segment = jnp.unique(group_ids, return_inverse=True, size=rows)
    segment = segment.reshape(rows)
    present = mask.any(axis=-1)
    sampled, shown = present & ~demonstration, present & demonstration

    def total(values: Array) -> Array:
        return jax.ops.segment_sum(values.astype(float), segment, rows)[segment]

    solved = total(sampled & correct) / jnp.maximum(total(sampled), 1.0)
    fails = (solved <= switch_threshold) & (total(shown) > 0) & (total(sampled) > 0)
    return fails == demonstration
