"""Two groups of completions of a prompt, of which one is preferred: scores of members to margins.

A group stands for the distribution that its members were drawn from: what is compared is the mean
score of the one and of the other (mDPO and mIPO, arXiv:2410.12138). Every link of a difference of
two scores can follow, `logistic` for mDPO and `squared` for mIPO.

| name | margins | what a link of them estimates |
| --- | --- | --- |
| `plugin` | between the two means | the link of the difference of means, with a bias of 1/k |
| `unbiased` | the same | of `squared`: exactly that; the variance of the means is taken off |
| `allpairs` | between all members | the link of single completions, whatever k is |

Where the k members of a group were judged together, as one thing, the group itself is the data
point and `plugin` is right: there is no distribution behind the means whose square could be
estimated. `unbiased` and its correction are for groups of independent samples.

B prompts, K completions of each. A group of one member has no variance that could be known: its
part of the correction is 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Members(NamedTuple):
    """The two groups of a prompt: [B, K] bool each."""

    chosen: Array
    rejected: Array


def plugin(side_scores: Array, chosen_sides: Array, present: Array) -> dict[str, Array]:
    """Mean score of the chosen group minus mean score of the rejected one, each of its own size.

        margin = sum_{i in G_w} s_i / k_w - sum_{j in G_l} s_j / k_l

    With one member in each group it is the margin of a pair. Of samples of two distributions a
    convex link of it is too large on average: (Var_w + Var_l) / k above, for `squared`.

    Args:
        side_scores: [B, K] f32, differentiated.
        chosen_sides: [B, K] bool, the completion is of the preferred group.
        present: [B, K] bool, there is such a completion.

    Returns:
        `margins` [B, 1] and `margin_weights` [B, 1].
    """
    members = _members(chosen_sides, present)
    margins = _mean(side_scores, members.chosen) - _mean(side_scores, members.rejected)
    return {"margins": margins[:, None], "margin_weights": jnp.ones_like(margins)[:, None]}


def unbiased(side_scores: Array, chosen_sides: Array, present: Array) -> dict[str, Array]:
    """`plugin`, and what the square of its margin is too large by (mIPO).

        excess = var_w / k_w + var_l / k_l,   var = sum_i (s_i - mean)^2 / (k - 1)

    (margin - target)^2 - excess has the mean (E s_w - E s_l - target)^2 over independent samples of
    both distributions; equivalently the square of a mean is that of products of different members.
    It can be negative. Gradients go through the variance, which is what makes them unbiased too.

    The paper says that such an estimator exists; its printed form was not seen, and this one
    is derived from that property.

    Args:
        side_scores: [B, K] f32, differentiated.
        chosen_sides: [B, K] bool, the completion is of the preferred group.
        present: [B, K] bool, there is such a completion.

    Returns:
        As `plugin`, and `excess` [B], which is taken off the square.
    """
    excess = sum(
        _variance(side_scores, group) / _size(group) for group in _members(chosen_sides, present)
    )
    return plugin(side_scores, chosen_sides, present) | {"excess": excess}


def allpairs(side_scores: Array, chosen_sides: Array, present: Array) -> dict[str, Array]:
    """Every chosen member against every rejected one; the losses are averaged, not the scores.

        loss = sum_{i in G_w, j in G_l} link(s_i - s_j) / (k_w k_l)

    A baseline: it is the loss of single completions with less noise. For `squared` its mean lies
    Var_w + Var_l above the square of the difference of means, for every k.

    Args:
        side_scores: [B, K] f32, differentiated.
        chosen_sides: [B, K] bool, the completion is of the preferred group.
        present: [B, K] bool, there is such a completion.

    Returns:
        `margins` [B, K * K] and `margin_weights` [B, K * K], which are 0 but between the groups.
    """
    members = _members(chosen_sides, present)
    weights = members.chosen[:, :, None] & members.rejected[:, None, :]
    sizes = _size(members.chosen) * _size(members.rejected)
    # Scores of members that are not there stay out of the links: 0 is a margin that all can take.
    margins = jnp.where(weights, side_scores[:, :, None] - side_scores[:, None, :], 0.0)
    flat = (len(side_scores), -1)
    return {
        "margins": margins.reshape(flat),
        "margin_weights": (weights / sizes[:, None, None]).reshape(flat),
    }


GROUP_ESTIMATORS = {"none": None, "plugin": plugin, "unbiased": unbiased, "allpairs": allpairs}


def group_means(values: Array, chosen_sides: Array, present: Array) -> tuple[Array, Array]:
    """Means [B] over the chosen and over the rejected members; 0 for a group without any.

    Args:
        values: [B, K] f32.
        chosen_sides: [B, K] bool, the completion is of the preferred group.
        present: [B, K] bool, there is such a completion.
    """
    chosen, rejected = _members(chosen_sides, present)
    return _mean(values, chosen), _mean(values, rejected)


def _members(chosen_sides: Array, present: Array) -> Members:
    return Members(chosen_sides & present, ~chosen_sides & present)


def _size(group: Array) -> Array:
    return jnp.maximum(group.sum(axis=-1), 1).astype(jnp.float32)


def _mean(values: Array, group: Array) -> Array:
    return jnp.where(group, values, 0.0).sum(axis=-1) / _size(group)


def _variance(values: Array, group: Array) -> Array:
    """Unbiased, [B]; 0 for a group of one."""
    centred = jnp.where(group, values - _mean(values, group)[:, None], 0.0)
    return jnp.square(centred).sum(axis=-1) / jnp.maximum(_size(group) - 1.0, 1.0)
