"""The group mean, whitened over the batch."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.baselines import group_mean
from rljax.objectives.advantages.groups import broadcast
from rljax.objectives.parts import check_field
from rljax.objectives.whitening import whiten

WHITEN_OVER = ("tokens", "samples")


def boost_correct(
    advantages: Array, mask: Array, scores: Array, *, correct_boost: float, boost_threshold: float
) -> Array:
    """Adds `correct_boost` to the tokens of rows whose score reaches the threshold.

    Args:
        advantages: [N, T] f32.
        mask: [N, T] bool, slots that may get the boost.
        scores: [N] f32.
        correct_boost: what is added.
        boost_threshold: the least score that gets it.

    Returns:
        [N, T] f32.
    """
    boosted = mask & (scores >= boost_threshold)[:, None]
    return advantages + jnp.where(boosted, correct_boost, 0.0)


def reinforce_plus_plus_baseline(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    scores: Array,
    *,
    whiten_over: str = "tokens",
    whiten_epsilon: float = 1e-8,
    correct_boost: float = 0.0,
    boost_threshold: float = 1.0,
) -> Array:
    """Score - group mean, whitened over the batch (REINFORCE++ with a baseline, arXiv:2501.03262).

        a = score - group mean;   A = (a - mean a) / sqrt(var a + epsilon)

    A group is not divided by its own deviation, whose noise would bias the estimate under a length
    limit (DLER, arXiv:2510.15110). Over tokens, a long row counts more in mean and variance. So the
    mean of `a` is not 0, and all rows of a homogeneous group get one small advantage that is not 0:
    drop such groups before, or whiten over samples.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt. A group of one keeps its score.
        scores: [N] f32, before a KL was taken out of the rewards; only the boost reads them.
        whiten_over: "tokens": every True slot counts once (verl and the code of DLER); "samples":
            every non-empty row counts once (the paper of DLER).
        whiten_epsilon: added to the variance.
        correct_boost: added afterwards to the tokens of right rows. 0.1 in the script of DLER, not
            in its paper.
        boost_threshold: the least score of a right row, for `correct_boost`; by default `right_at`
            of config.scoring.rewards.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for another `whiten_over`.
    """
    check_field(
        "whiten_over", whiten_over, lambda x: x in WHITEN_OVER, f"one of {', '.join(WHITEN_OVER)}"
    )
    centred = group_mean(token_rewards, mask, group_ids)
    if whiten_over == "tokens":
        whitened = whiten(centred, mask, epsilon=whiten_epsilon)
    else:
        # All tokens of a row hold the same value, which is their maximum.
        row = jnp.where(mask, centred, -jnp.inf).max(axis=-1)
        whitened = broadcast(whiten(row, mask.any(axis=-1), epsilon=whiten_epsilon), mask)
    scores = jax.lax.stop_gradient(scores)
    return boost_correct(
        whitened, mask, scores, correct_boost=correct_boost, boost_threshold=boost_threshold
    )
