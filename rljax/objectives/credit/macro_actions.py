"""Where one macro action ends and the next begins (MA-RLHF, arXiv:2410.02743, section 3.2).

Each rule returns segment numbers [N, T]. They are counted over True slots only. As in the authors'
code, the last token of a row is a macro action of its own: the outcome on it is then not averaged.
With `last_alone=False` it belongs to the macro action before it, so that a long enough n-gram is
the whole row (a bandit). Rules that need text (the parse of a sentence) come in as boundaries
through `slots.segments_from_starts`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.slots import last_slot, next_true, ranks, segments_from_starts
from rljax.objectives.parts import check_field

RANDOM_LENGTHS = (1, 2, 3, 5, 10)


def _numbered(starts: Array, mask: Array, last_alone: bool) -> Array:
    if last_alone:
        starts = starts | last_slot(mask)
    return segments_from_starts(starts, mask)


def ngrams(mask: Array, *, ngram: int = 5, last_alone: bool = True) -> Array:
    """Macro actions of `ngram` tokens; with 1 each token is a macro action.

    Args:
        mask: [N, T] bool.
        ngram: tokens of a macro action (5 for TL;DR and HH, 10 for APPS).
        last_alone: the last token is a macro action of its own.

    Returns:
        [N, T] i32; 7 tokens with ngram 3 give 0 0 0 1 1 1 2, 6 tokens give 0 0 0 1 1 2.

    Raises:
        ValueError: if `ngram` is below 1.
    """
    check_field("ngram", ngram, lambda x: x >= 1, ">= 1")
    return _numbered(ranks(mask) % ngram == 0, mask, last_alone)


def random_ngrams(
    mask: Array, noise: Array, *, ngram_repeats: int = 3, last_alone: bool = True
) -> Array:
    """Macro actions of random length: a shuffled list of 1, 2, 3, 5 and 10 tokens.

    The list holds each length `ngram_repeats` times. When it is used up, the tokens that are left
    are one macro action. Lengths are drawn without replacement, which is a uniform shuffle.

    Args:
        mask: [N, T] bool.
        noise: [N, T] f32 in [0, 1); the slot that begins a macro action decides on its length.
        ngram_repeats: how often each length is in the list; 3 lists cover 63 tokens.
        last_alone: the last token is a macro action of its own.

    Returns:
        [N, T] i32.

    Raises:
        ValueError: if `ngram_repeats` is below 1.
    """
    check_field("ngram_repeats", ngram_repeats, lambda x: x >= 1, ">= 1")
    chex.assert_equal_shape([mask, noise])
    rows, slots = mask.shape
    lengths = jnp.array(RANDOM_LENGTHS, jnp.int32)

    def step(state: tuple[Array, Array], slot: tuple[Array, Array]):
        unused, left = state
        counts, uniform = slot
        starts = counts & (left == 0)
        total = unused.sum(axis=-1)
        drawn = jnp.clip(jnp.floor(uniform * total).astype(jnp.int32), 0, total - 1)
        choice = (drawn[:, None] >= jnp.cumsum(unused, axis=-1)).sum(axis=-1)
        length = jnp.where(total > 0, lengths[jnp.minimum(choice, len(RANDOM_LENGTHS) - 1)], slots)
        taken = jax.nn.one_hot(choice, len(RANDOM_LENGTHS), dtype=unused.dtype)
        unused = unused - jnp.where(starts & (total > 0), 1, 0)[:, None] * taken
        left = jnp.where(starts, length, left) - counts
        return (unused, left), starts

    unused = jnp.broadcast_to(jnp.asarray(ngram_repeats, jnp.int32), (rows, len(RANDOM_LENGTHS)))
    state = (unused, jnp.zeros((rows,), jnp.int32))
    _, starts = jax.lax.scan(step, state, (mask.T, noise.T))
    return _numbered(starts.T, mask, last_alone)


def falling_perplexity(mask: Array, ref_logprobs: Array, *, last_alone: bool = True) -> Array:
    """A macro action begins at a token whose successor is less likely than itself.

    With p the perplexity exp(-ref_logprobs) of a token, a boundary is at i where p[i+1] > p[i]. The
    perplexity is the reference's, so that boundaries do not change during training.

    Args:
        mask: [N, T] bool.
        ref_logprobs: [N, T] f32, under the frozen reference.
        last_alone: the last token is a macro action of its own.

    Returns:
        [N, T] i32; perplexities 3 5 4 2 6 1 give 0 0 0 1 1 2 (boundaries at 0, 3 and the last).
    """
    chex.assert_equal_shape([mask, ref_logprobs])
    logprobs = jax.lax.stop_gradient(ref_logprobs)
    return _numbered(next_true(logprobs, mask, jnp.inf) < logprobs, mask, last_alone)
