"""Group policy gradient: the group mean, scaled up for the rows that carry no gradient."""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import (
    broadcast,
    group_statistics,
    scores_of,
)
from rljax.objectives.parts import check_field

RESCALES = ("informative_rows", "nonzero_scores", "none")


def gpg(
    token_rewards: Array,
    mask: Array,
    group_ids: Array,
    *,
    rescale: str = "informative_rows",
    f_norm: float = 1.0,
) -> Array:
    """A = alpha * (score - group mean) / f_norm (GPG, arXiv:2504.02546).

    alpha = N / (N - M) undoes the dilution of a batch mean by the M rows of groups whose scores
    all agree. A group of one has no mean to compare with: it keeps its score, scaled, and is not
    counted in M.

    Args:
        token_rewards: [N, T] f32.
        mask: [N, T] bool.
        group_ids: [N] i32, equal for the samples of one prompt.
        rescale: what alpha is: "informative_rows" for N / (N - M); "nonzero_scores" for N over the
            number of rows whose raw score is not 0, as in verl; "none" for 1.
        f_norm: what the advantages are divided by, > 0.

    Returns:
        [N, T] f32, constant, zero outside the mask; exactly 0 where all scores of a group of two
        or more agree.

    Raises:
        ValueError: for another `rescale`, or `f_norm` that is not positive.
    """
    check_field("rescale", rescale, lambda x: x in RESCALES, f"one of {', '.join(RESCALES)}")
    check_field("f_norm", f_norm, lambda x: x > 0, "> 0")
    scores, present = scores_of(token_rewards, mask, group_ids)
    group = group_statistics(scores, present, group_ids)
    alone = group.size == 1
    centred = jnp.where(alone, scores, scores - group.mean)
    counted = {
        "informative_rows": alone | ~group.homogeneous,
        "nonzero_scores": scores != 0,
        "none": jnp.ones_like(present),
    }[rescale]
    alpha = present.sum() / jnp.maximum((present & counted).sum(), 1)
    return broadcast(alpha * centred / f_norm, mask)
