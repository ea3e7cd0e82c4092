"""The score of a whole sample becomes rewards of its tokens, as in PPO with a reward model.

The order matters: clip the score, punish a missing end, place it on the last token, then take the
KL out (`policy_gradient.kl_in_reward`), then whiten. A clip after the KL would clip the KL.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.slots import last_slot
from rljax.objectives.parts import check_field
from rljax.objectives.whitening import whiten


def bounded_scores(
    scores: Array,
    finished: Array,
    *,
    reward_clip: float | None = None,
    missing_end_score: float | None = None,
) -> Array:
    """Scores of a reward model, kept inside a range and replaced where a sample has no end.

    Args:
        scores: [N] f32.
        finished: [N] bool, ended by itself.
        reward_clip: scores are clipped to +- this (2.5 in MA-RLHF); None for off.
        missing_end_score: score of a sample that was cut off, instead of the reward model's (-1 in
            arXiv:1909.08593's code); not clipped; None for off.

    Returns:
        [N] f32.

    Raises:
        ValueError: if `reward_clip` is not positive.
    """
    check_field("reward_clip", reward_clip, lambda x: x > 0, "> 0, or None to switch it off")
    chex.assert_equal_shape([scores, finished])
    if reward_clip is not None:
        scores = jnp.clip(scores, -reward_clip, reward_clip)
    if missing_end_score is not None:
        scores = jnp.where(finished, scores, missing_end_score)
    return jax.lax.stop_gradient(scores)


def place_turns(turn_rewards: Array, scores: Array, mask: Array) -> Array:
    """Rewards of turns where they were earned; what else a score holds is on the last True slot.

    Args:
        turn_rewards: [N, T] f32, on the last token of each turn, 0 elsewhere.
        scores: [N] f32, of whole samples: the sum of a row's rewards.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, 0 outside the mask.
    """
    own = jnp.where(mask, turn_rewards, 0.0)
    return own + place_outcomes(scores - own.sum(axis=-1), mask)


def place_outcomes(scores: Array, mask: Array) -> Array:
    """Puts each row's score on its last True slot.

    Args:
        scores: [N], any numeric type.
        mask: [N, T] bool.

    Returns:
        [N, T] f32, zero elsewhere; a row without True slots gets it nowhere.
    """
    chex.assert_shape(scores, (mask.shape[0],))
    # `float` first: in an array of integers a score of 0.7 would become 0.
    scores = jax.lax.stop_gradient(scores.astype(jnp.result_type(scores, float)))
    return jnp.where(last_slot(mask), scores[:, None], 0.0)


def whiten_rewards(token_rewards: Array, mask: Array, *, reward_epsilon: float = 1e-8) -> Array:
    """Unit variance over all tokens, the mean kept (arXiv:1909.08593's code).

    Args:
        token_rewards: [N, T] f32, the KL taken out already.
        mask: [N, T] bool.
        reward_epsilon: added to the variance.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: if `reward_epsilon` is negative.
    """
    check_field("reward_epsilon", reward_epsilon, lambda x: x >= 0, ">= 0")
    return whiten(token_rewards, mask, shift_mean=False, epsilon=reward_epsilon)
