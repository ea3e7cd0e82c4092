"""The states of a sample whose value is estimated by rollouts (SPO, VinePPO).

A cut is marked on the first token *after* the state: True on slot t says "estimate the state before
token t, continue from the tokens before it", and token t belongs to the segment that begins there.
SPO's papers and code number the same state by the token before it (t - 1; -1 is the prompt). A cut
on the first token is the state after the prompt. Without a cut there, the segment that begins with
the first token has no estimate.

`CUTS` holds the rules; the parts of the same names in `SEGMENTATIONS` number the segments between
the cuts.
"""

import chex
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.slots import next_true, ranks, segments_from_starts
from rljax.objectives.parts import check_field


def uncertain_cuts(
    mask: Array, old_logprobs: Array, *, cut_threshold: float = 0.9, cut_interval: int = 5
) -> Array:
    """Cuts before every `cut_interval`-th uncertain token, the first one included (SPO-chain).

    A token is uncertain where the policy gave it less than `cut_threshold` (arXiv:2505.23564).

    Args:
        mask: [N, T] bool.
        old_logprobs: [N, T] f32, under the policy that sampled.
        cut_threshold: probability below which a token is uncertain, in (0, 1].
        cut_interval: uncertain tokens from one cut to the next (5; also 2 and 10 in the paper).

    Returns:
        [N, T] bool; probabilities 1 .5 1 .5 .5 with interval 2 are cut at slots 1 and 4.

    Raises:
        ValueError: for a field outside its range.
    """
    check_field("cut_threshold", cut_threshold, lambda x: 0 < x <= 1, "in (0, 1]")
    check_field("cut_interval", cut_interval, lambda x: x >= 1, ">= 1")
    chex.assert_equal_shape([mask, old_logprobs])
    uncertain = mask & (jnp.exp(jnp.where(mask, old_logprobs, 0.0)) < cut_threshold)
    return uncertain & (ranks(uncertain) % cut_interval == 0)


def spaced_cuts(mask: Array, *, cut_spacing: int = 30) -> Array:
    """Cuts before every `cut_spacing`-th token, the first one included (SPO's naive variant).

    Args:
        mask: [N, T] bool.
        cut_spacing: tokens from one cut to the next.

    Returns:
        [N, T] bool.

    Raises:
        ValueError: if `cut_spacing` is below 1.
    """
    check_field("cut_spacing", cut_spacing, lambda x: x >= 1, ">= 1")
    return mask & (ranks(mask) % cut_spacing == 0)


def step_cuts(mask: Array, tokens: Array, *, step_end_tokens: tuple = (10,)) -> Array:
    """Cuts before each step of a solution: the first token, and each one after a step (VinePPO).

    Args:
        mask: [N, T] bool.
        tokens: [N, T] i32, sampled tokens.
        step_end_tokens: ids of tokens that end a step (10 is the line feed of a byte tokenizer).
            Several in a row end one step; they belong to it.

    Returns:
        [N, T] bool; tokens a \\n \\n b \\n are cut before a and before b.

    Raises:
        ValueError: if no token ends a step.
    """
    check_field("step_end_tokens", step_end_tokens, len, "a tuple of one or more token ids")
    chex.assert_equal_shape([mask, tokens])
    ends = (tokens[..., None] == jnp.array(step_end_tokens)).any(axis=-1)
    # The neighbour before a token is its successor in the reversed row.
    after_end = next_true(ends[:, ::-1], mask[:, ::-1], False)[:, ::-1]
    return mask & ((ranks(mask) == 0) | (after_end & ~ends))


def first_cuts(cuts: Array, *, cut_limit: int) -> Array:
    """The first `cut_limit` cuts of each row (25 steps per solution in VinePPO on GSM8K).

    Args:
        cuts: [N, T] bool.
        cut_limit: cuts to keep, >= 0.

    Returns:
        [N, T] bool. States that are left out have no value: see `segment_values`.

    Raises:
        ValueError: if `cut_limit` is negative.
    """
    check_field("cut_limit", cut_limit, lambda x: x >= 0, ">= 0")
    return cuts & (ranks(cuts) < cut_limit)


def uncertain(
    mask: Array, old_logprobs: Array, *, cut_threshold: float = 0.9, cut_interval: int = 5
) -> Array:
    """Segments between `uncertain_cuts` (SPO-chain, arXiv:2505.23564).

    Args:
        mask: [N, T] bool.
        old_logprobs: [N, T] f32, under the policy that sampled.
        cut_threshold: probability below which a token is uncertain, in (0, 1].
        cut_interval: uncertain tokens from one cut to the next.

    Returns:
        [N, T] i32. Tokens before the first cut are segment 0.

    Raises:
        ValueError: for a field outside its range.
    """
    cuts = uncertain_cuts(
        mask, old_logprobs, cut_threshold=cut_threshold, cut_interval=cut_interval
    )
    return segments_from_starts(cuts, mask)


def spaced(mask: Array, *, cut_spacing: int = 30) -> Array:
    """Segments of `cut_spacing` tokens (naive SPO).

    Args:
        mask: [N, T] bool.
        cut_spacing: tokens from one cut to the next, >= 1.

    Returns:
        [N, T] i32.

    Raises:
        ValueError: if `cut_spacing` is below 1.
    """
    return segments_from_starts(spaced_cuts(mask, cut_spacing=cut_spacing), mask)


def steps(mask: Array, tokens: Array, *, step_end_tokens: tuple = (10,)) -> Array:
    """Segments are the steps of a solution (VinePPO, arXiv:2410.01679).

    Args:
        mask: [N, T] bool.
        tokens: [N, T] i32, sampled tokens.
        step_end_tokens: ids of tokens that end a step, one or more.

    Returns:
        [N, T] i32.

    Raises:
        ValueError: if no token ends a step.
    """
    return segments_from_starts(step_cuts(mask, tokens, step_end_tokens=step_end_tokens), mask)


CUTS = {"uncertain": uncertain_cuts, "spaced": spaced_cuts, "steps": step_cuts}
