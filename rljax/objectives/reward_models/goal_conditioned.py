"""A contrastive term for reward models: early states are close to good endings, far from bad ones.

"Learning Goal-Conditioned Representations for Language Reward Models" (arXiv:2407.13887). It looks
at the last layer's states of the chosen and the rejected completion, not at their scores.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field

# What is drawn for a pair: a source and a goal of the chosen side, then a source of the chosen and
# a goal of the rejected side.
DRAWS = 4
SMALLEST_NORM = 1e-8


def state_slots(uniforms: Array, lengths: Array, percentile: float) -> Array:
    """The states that uniform draws choose, late ones for small draws.

        u' = (p - 1) u + 1 in (p, 1],    k = floor(u' n + 1),    the k-th state from the end

    Args:
        uniforms: [B, S] f32 in [0, 1).
        lengths: [B] i32, n, tokens of each completion.
        percentile: p in [0, 1): 0 chooses from the whole completion, 0.5 from its first half.

    Returns:
        [B, S] i32 in [0, n]; 0 is the last token of the prompt, n the last one of the completion.
    """
    scaled = (percentile - 1.0) * uniforms + 1.0
    from_end = jnp.floor(scaled * lengths[:, None] + 1.0).astype(jnp.int32)
    return jnp.clip(lengths[:, None] + 1 - from_end, 0, lengths[:, None])


def goal_similarities(
    hidden: Array,
    lengths: Array,
    uniforms: Array,
    *,
    source_percentile: float = 0.0,
    goal_percentile: float = 0.0,
    goal_average: bool = False,
) -> tuple[Array, Array]:
    """Mean of q = sigmoid(cosine(source, goal)) over all sources and goals of a pair.

    Of two draws in the chosen side the smaller one gives the source. A source may stand behind a
    goal all the same, as all are compared with all.

    Args:
        hidden: [B, 2, T + 1, D] f32, states of the chosen and the rejected side, from the last
            token of the prompt on; differentiated.
        lengths: [B, 2] i32, tokens of the completions.
        uniforms: [B, 4, S] f32 in [0, 1), see `DRAWS`.
        source_percentile: states of a source are in the part of a completion before this share of
            it is left; in [0, 1).
        goal_percentile: the same of goals.
        goal_average: compare with the mean of the goals instead of with each.

    Returns:
        [B] of goals in the chosen completion, [B] of goals in the rejected one; each in (0, 1).
    """
    chosen, rejected = hidden[:, 0], hidden[:, 1]
    first = jnp.sort(uniforms[:, :2], axis=1)
    draws = (first[:, 0], first[:, 1], uniforms[:, 2], uniforms[:, 3])
    sides = (chosen, chosen, chosen, rejected)
    sizes = (lengths[:, 0],) * 3 + (lengths[:, 1],)
    shares = (source_percentile, goal_percentile) * 2
    source, goal, other, bad = (
        _taken(side, state_slots(draw, size, share))
        for side, draw, size, share in zip(sides, draws, sizes, shares, strict=True)
    )
    return _mean_q(source, goal, goal_average), _mean_q(other, bad, goal_average)


def goal_conditioned(
    goal_positive: Array,
    goal_negative: Array,
    goal_positive_mean: Array,
    goal_negative_mean: Array,
    *,
    goal_weight: float = 0.5,
) -> tuple[Array, dict[str, SumCount]]:
    """-log mean(q+) - log(1 - mean(q-)), means over the whole batch, times a weight.

    The logarithm of a mean is not a sum over pairs. It is expanded around the means of the policy
    as it is, which are constants: the sum over the batch then has exactly its value and its
    gradient, however the batch is split. States without any structure have about 2 ln 2; as a
    cosine lies in [-1, 1] the term is at least 0.627.

    Args:
        goal_positive: [B] f32, mean q of goals in the chosen completion, differentiated.
        goal_negative: [B] f32, of goals in the rejected one, differentiated.
        goal_positive_mean: [B] f32, mean of the former over the whole batch, constant.
        goal_negative_mean: [B] f32, of the latter.
        goal_weight: factor of the term.

    Returns:
        [B] loss, and metrics over pairs: `goal_positive`, `goal_negative`.

    Raises:
        ValueError: for a negative weight.
    """
    check_field("goal_weight", goal_weight, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([goal_positive, goal_negative, goal_positive_mean])
    good, bad = map(jax.lax.stop_gradient, (goal_positive_mean, goal_negative_mean))
    near = -jnp.log(good) - (goal_positive - good) / good
    far = -jnp.log1p(-bad) + (goal_negative - bad) / (1.0 - bad)
    everything = jnp.ones(near.shape, bool)
    logged = {"goal_positive": goal_positive, "goal_negative": goal_negative}
    metrics = {name: masked(values, everything) for name, values in logged.items()}
    return goal_weight * (near + far), metrics


def _taken(hidden: Array, slots: Array) -> Array:
    """[B, T + 1, D], [B, S] -> [B, S, D]"""
    return jnp.take_along_axis(hidden, slots[..., None], axis=1)


def _mean_q(source: Array, goal: Array, average: bool) -> Array:
    if average:
        goal = goal.mean(axis=1, keepdims=True)
    cosine = jnp.einsum("bsd,bgd->bsg", _unit(source), _unit(goal))
    return jax.nn.sigmoid(cosine).mean(axis=(1, 2))


def _unit(states: Array) -> Array:
    # The maximum comes first: the root has no gradient at 0.
    squares = jnp.maximum(jnp.sum(states**2, axis=-1, keepdims=True), SMALLEST_NORM**2)
    return states / jnp.sqrt(squares)
