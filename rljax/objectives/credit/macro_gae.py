"""GAE over macro actions (MA-RLHF, arXiv:2410.02743): one advantage for all tokens of a segment."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.credit.gae import check_unit, generalized_advantages
from rljax.objectives.credit.slots import last_slot, ranks
from rljax.objectives.means import between
from rljax.objectives.parts import check_field
from rljax.objectives.whitening import whiten

MACRO_WEIGHTS = ("equal", "unit", "position")


class MacroActions(NamedTuple):
    """Segments of a row as steps, all [N, T]: slot j is segment j; a row has at most T of them."""

    rewards: Array  # f32
    values: Array  # f32, of the segment
    mask: Array  # bool, False where there is no such segment


def segment_totals(values: Array, mask: Array, segment_ids: Array) -> Array:
    """Sum over the tokens of each segment. [N, T] each -> [N, T] by segment number."""
    slots = mask.shape[-1]
    # Numbers outside [0, T) are dropped by the sum.
    ids = jnp.where(mask, segment_ids, slots)
    sums_of_row = functools.partial(jax.ops.segment_sum, num_segments=slots)
    return jax.vmap(sums_of_row)(jnp.where(mask, values, 0), ids)


def of_token(by_segment: Array, mask: Array, segment_ids: Array) -> Array:
    """The value of each token's segment. [N, T] by segment number -> [N, T], 0 outside."""
    ids = jnp.clip(segment_ids, 0, mask.shape[-1] - 1)
    return jnp.where(mask, jnp.take_along_axis(by_segment, ids, axis=-1), 0)


def position_in_segment(mask: Array, segment_ids: Array) -> tuple[Array, Array]:
    """Each token's number within its segment, from 0, and the segment's length, [N, T] each."""
    slots = mask.shape[-1]
    own = ranks(mask)
    ids = jnp.where(mask, segment_ids, slots)
    least_of_row = functools.partial(jax.ops.segment_min, num_segments=slots)
    first = of_token(jax.vmap(least_of_row)(own, ids), mask, segment_ids)
    lengths = segment_totals(jnp.ones_like(own), mask, segment_ids)
    return own - first, of_token(lengths, mask, segment_ids)


def _token_weights(mask: Array, segment_ids: Array, macro_weights: str) -> Array:
    """Weights sigma of the tokens inside their segment, which sum to 1. [N, T] f32."""
    check_field("macro_weights", macro_weights, MACRO_WEIGHTS.__contains__, f"in {MACRO_WEIGHTS}")
    position, length = position_in_segment(mask, segment_ids)
    if macro_weights == "unit":
        return (mask & (position == length - 1)).astype(float)
    raw = jnp.where(mask, 1.0, 0.0)
    if macro_weights == "position":
        raw = raw / jnp.where(mask, position + 1, 1)
    total = of_token(segment_totals(raw, mask, segment_ids), mask, segment_ids)
    return raw / jnp.where(mask, total, 1.0)


def macro_actions(
    token_rewards: Array,
    values: Array,
    mask: Array,
    segment_ids: Array,
    *,
    macro_weights: str = "equal",
) -> MacroActions:
    """Rewards and values of segments: averages over their tokens with weights sigma.

        X[j] = sum_k sigma[k] * x[k]

    `equal`: 1 / length; `unit`: the last token alone; `position`: proportional to 1 / (k + 1), k
    from 0. The reward of the row's last token holds the outcome: it is added whole, never averaged,
    however long its segment is.

    Args:
        token_rewards: [N, T] f32.
        values: [N, T] f32, of the state before each token.
        mask: [N, T] bool.
        segment_ids: [N, T] i32, from 0 in each row; numbers may be left out.
        macro_weights: `equal`, `unit` or `position`.

    Returns:
        `MacroActions`, constant, zero where there is no segment.

    Raises:
        ValueError: for other `macro_weights`.
    """
    chex.assert_rank(values, 2)
    chex.assert_equal_shape([token_rewards, values, mask, segment_ids])
    weights = _token_weights(mask, segment_ids, macro_weights)
    outcome = jnp.where(last_slot(mask), 1.0, weights)

    def clean(x: Array) -> Array:
        return jax.lax.stop_gradient(jnp.where(mask, x, 0.0))

    means = segment_totals(weights * clean(values), mask, segment_ids)
    return MacroActions(
        segment_totals(outcome * clean(token_rewards), mask, segment_ids),
        between(means, *_segment_bounds(clean(values), mask, segment_ids)),
        segment_totals(jnp.ones(mask.shape, jnp.int32), mask, segment_ids) > 0,
    )


def _segment_bounds(values: Array, mask: Array, segment_ids: Array) -> tuple[Array, Array]:
    """Least and largest value of each segment, [N, T] by segment number; inf and -inf of none."""
    slots = mask.shape[-1]
    ids = jnp.where(mask, segment_ids, slots)
    bounds = (jax.ops.segment_min, jnp.inf), (jax.ops.segment_max, -jnp.inf)
    lowest, highest = (
        jax.vmap(functools.partial(of_row, num_segments=slots))(jnp.where(mask, values, none), ids)
        for of_row, none in bounds
    )
    return lowest, highest


def macro_gae(
    token_rewards: Array,
    values: Array,
    mask: Array,
    segment_ids: Array,
    *,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
    macro_weights: str = "equal",
    whiten_advantages: bool = False,
    whiten_epsilon: float = 1e-8,
) -> Array:
    """GAE over segments; every token takes the advantage of its segment (arXiv:2410.02743).

    The state after a row's last token is terminal. The paper does not whiten; to compare with
    `gae`, whiten both or neither. The paper writes one ratio for a macro action, the
    authors' code takes those of tokens: `ratio="segment"` or "token".

    Args:
        token_rewards: [N, T] f32; an outcome is on the last True slot.
        values: [N, T] f32, of the state before each token.
        mask: [N, T] bool.
        segment_ids: [N, T] i32, macro action of each token.
        gamma: discount per macro action, in [0, 1].
        gae_lambda: weight of later TD errors, in [0, 1].
        macro_weights: weights of the tokens of a macro action: equal, unit or position.
        whiten_advantages: mean 0 and unbiased variance 1 over all tokens.
        whiten_epsilon: added to the variance that advantages are whitened with.

    Returns:
        [N, T] f32, constant, zero outside the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma, gae_lambda=gae_lambda)
    check_field("whiten_epsilon", whiten_epsilon, lambda x: x >= 0, ">= 0")
    steps = macro_actions(token_rewards, values, mask, segment_ids, macro_weights=macro_weights)
    advantages = generalized_advantages(
        steps.rewards, steps.values, steps.mask, gamma=gamma, gae_lambda=gae_lambda
    )
    advantages = of_token(advantages, mask, segment_ids)
    return whiten(advantages, mask, epsilon=whiten_epsilon) if whiten_advantages else advantages


def macro_returns(
    token_rewards: Array,
    values: Array,
    mask: Array,
    segment_ids: Array,
    *,
    gamma: float = 1.0,
    value_lambda: float = 0.95,
    macro_weights: str = "equal",
) -> tuple[Array, Array]:
    """Targets of the critic over segments: A[j] + V[j], the same for all tokens of segment j.

    Args:
        token_rewards: [N, T] f32; an outcome is on the last True slot.
        values: [N, T] f32, of the state before each token.
        mask: [N, T] bool.
        segment_ids: [N, T] i32, macro action of each token.
        gamma: discount per macro action, in [0, 1].
        value_lambda: lambda of the critic's targets, in [0, 1]; in the paper it is the policy's.
        macro_weights: weights of the tokens of a macro action: equal, unit or position.

    Returns:
        [N, T] f32, constant, zero outside the mask, and the mask.

    Raises:
        ValueError: for a field outside its range.
    """
    check_unit(gamma=gamma, value_lambda=value_lambda)
    steps = macro_actions(token_rewards, values, mask, segment_ids, macro_weights=macro_weights)
    advantages = generalized_advantages(
        steps.rewards, steps.values, steps.mask, gamma=gamma, gae_lambda=value_lambda
    )
    return of_token(advantages + steps.values, mask, segment_ids), mask
