"""Losses of reward models on K completions of a prompt with a score of the data for each.

A completion is preferred to another of its prompt where its rating is higher, strictly: ties say
nothing.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def regression(
    side_scores: Array, ratings: Array, present: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Squared distance to the rating: (r - s)^2 (OpenRLHF, HelpSteer).

    At the optimum r is the mean rating of such a completion.

    Args:
        side_scores: [B, K] f32, r, differentiated.
        ratings: [B, K] f32, s, as the data have them: scale them to about 1.
        present: [B, K] bool; a completion that is not there counts nowhere.

    Returns:
        [B] loss, the mean over a prompt's completions, 0 without any; metrics as for `all_pairs`,
        and `squared_error` over completions.
    """
    chex.assert_equal_shape([side_scores, ratings, present])
    error = (side_scores - ratings) ** 2
    loss = jnp.where(present, error, 0.0).sum(axis=1) / jnp.maximum(present.sum(axis=1), 1)
    metrics = _metrics(side_scores, preferred(ratings, present), present)
    return loss, metrics | {"squared_error": masked(error, present)}


def all_pairs(
    side_scores: Array, ratings: Array, present: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Bradley-Terry over all pairs of a prompt's completions (InstructGPT, arXiv:2203.02155).

        loss = -mean over pairs with s_i > s_j of log sigmoid(r_i - r_j)

    Every completion is scored once, and a prompt counts once, however many pairs it has. With two
    completions it is `bradley_terry`.

    Args:
        side_scores: [B, K] f32, r, differentiated.
        ratings: [B, K] f32, s; only their order counts.
        present: [B, K] bool; a completion that is not there counts nowhere.

    Returns:
        [B] loss, 0 for a prompt without a pair; and metrics: `reward_accuracy` over pairs (strict)
        and `score_mean` over completions.
    """
    chex.assert_equal_shape([side_scores, ratings, present])
    pairs = preferred(ratings, present)
    each = -jax.nn.log_sigmoid(_differences(side_scores))
    loss = jnp.where(pairs, each, 0.0).sum(axis=(1, 2)) / jnp.maximum(pairs.sum(axis=(1, 2)), 1)
    return loss, _metrics(side_scores, pairs, present)


def plackett_luce(
    side_scores: Array, ratings: Array, present: Array
) -> tuple[Array, dict[str, SumCount]]:
    """Negative log-likelihood of the whole order of a prompt's completions (Plackett-Luce).

        loss = -sum_i ( r_i - log sum over j with j = i or s_j < s_i of exp r_j )

    Without ties this is the usual product of softmaxes over what is not yet chosen. Completions of
    equal rating are each preferred to the lower ones, and not compared with one another. With two
    completions it is `bradley_terry`.

    Args:
        side_scores: [B, K] f32, r, differentiated.
        ratings: [B, K] f32, s; only their order counts.
        present: [B, K] bool; a completion that is not there counts nowhere.

    Returns:
        [B] loss, 0 for a prompt whose completions are rated alike; metrics as for `all_pairs`.
    """
    chex.assert_equal_shape([side_scores, ratings, present])
    pairs = preferred(ratings, present)
    # What is not there is compared with itself: a row of -inf alone would have no gradient.
    rest = pairs | jnp.eye(ratings.shape[1], dtype=bool)
    logits = jnp.where(rest, side_scores[:, None, :], -jnp.inf)
    each = jax.nn.logsumexp(logits, axis=2) - side_scores
    return jnp.where(present, each, 0.0).sum(axis=1), _metrics(side_scores, pairs, present)


def preferred(ratings: Array, present: Array) -> Array:
    """[B, K, K] bool: completion i (axis 1) is rated higher than completion j, and both are there.

    Args:
        ratings: [B, K] f32.
        present: [B, K] bool.
    """
    return (_differences(ratings) > 0) & present[:, :, None] & present[:, None, :]


def _differences(values: Array) -> Array:
    return values[:, :, None] - values[:, None, :]


def _metrics(side_scores: Array, pairs: Array, present: Array) -> dict[str, SumCount]:
    return {
        "reward_accuracy": masked(_differences(side_scores) > 0, pairs),
        "score_mean": masked(side_scores, present),
    }
