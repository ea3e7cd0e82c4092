"""Which sampled tokens, rows and groups are trained on.

A *selection* narrows the mask that the loss sees: named arrays -> kept [N, T] bool, a constant. It
comes after the advantages, whose statistics are still those of the whole batch. The aggregation
divides by what is left, except after the selections of `FULL_DENOMINATOR`, whose papers divide by
the tokens of the mask before. An empty selection is no update.

A *group filter* decides whose samples are in the batch at all, before the advantages: (scores or
correct, group_ids, mask) -> keep [N] bool. It reads the task's own measure, not a shaped reward,
and drops whole groups only.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics
from rljax.objectives.corrections.importance import sampler_log_ratio
from rljax.objectives.diagnostics import masked_quantile
from rljax.objectives.parts import check_field

SHARE = (lambda x: 0 < x <= 1, "in (0, 1]")

# Makes 0.2 * 15 tokens 3, although the product of float32 numbers may be a little more.
ROUNDING = 1e-6


def everything(mask: Array) -> Array:
    """All of the mask. [N, T] bool -> the same."""
    return mask


def finished_only(mask: Array, finished: Array) -> Array:
    """Overlong filtering (DAPO, arXiv:2503.14476, section 3.4): truncated rows leave the loss.

    They stay in the statistics of their groups.

    Args:
        mask: [N, T] bool.
        finished: [N] bool, False for a row that was cut off.

    Returns:
        [N, T] bool.
    """
    chex.assert_shape(finished, (mask.shape[0],))
    return mask & finished[:, None].astype(bool)


def with_advantage(mask: Array, advantages: Array) -> Array:
    """Rows whose advantages are not all exactly 0 (SPIRAL, arXiv:2506.24119, drops the others).

    What has no advantage has no gradient: only the means over rows or tokens change.

    Args:
        mask: [N, T] bool.
        advantages: [N, T] f32.

    Returns:
        [N, T] bool.
    """
    return mask & (mask & (advantages != 0)).any(axis=-1, keepdims=True)


def uncertain(mask: Array, old_logprobs: Array, *, uncertain_below: float = 0.9) -> Array:
    """Tokens that the policy was not sure of: exp(old_logprobs) < threshold (SPO, 2505.23564).

    Args:
        mask: [N, T] bool.
        old_logprobs: [N, T] f32.
        uncertain_below: probability under which a token counts; 1 keeps all of them.

    Returns:
        [N, T] bool; the whole mask where no token of the batch is uncertain.

    Raises:
        ValueError: if the threshold is not in (0, 1].
    """
    check_field("uncertain_below", uncertain_below, *SHARE)
    chex.assert_equal_shape([mask, old_logprobs])
    probability = jnp.exp(jnp.where(mask, jax.lax.stop_gradient(old_logprobs), 0.0))
    # A probability can round to exactly 1; a threshold of 1 still means every token.
    kept = mask & ((probability < uncertain_below) | (uncertain_below >= 1))
    return jnp.where(kept.any(), kept, mask)


def top_entropy(mask: Array, old_entropy: Array, *, entropy_share: float = 0.2) -> Array:
    """Forking tokens: entropy at or above the quantile 1 - share of the batch (arXiv:2506.01939).

    TRL's `top_entropy_quantile`: the quantile interpolates linearly, ties at it are kept. The loss
    is still divided by all tokens of the mask (`FULL_DENOMINATOR`).

    Args:
        mask: [N, T] bool.
        old_entropy: [N, T] f32, nats.
        entropy_share: share of tokens that are kept; 1 keeps all.

    Returns:
        [N, T] bool.

    Raises:
        ValueError: if the share is not in (0, 1].
    """
    check_field("entropy_share", entropy_share, *SHARE)
    chex.assert_equal_shape([mask, old_entropy])
    entropy = jax.lax.stop_gradient(old_entropy)
    return mask & (entropy >= masked_quantile(entropy, mask, 1.0 - entropy_share))


def second_moment(
    mask: Array, old_logprobs: Array, behavior_logprobs: Array, *, second_moment_below: float = 0.04
) -> Array:
    """M2PO's mask: drops the tokens furthest from the sampler until the mean square is small.

    The tokens of the batch are sorted by (log old - log behavior)^2. As many of the smallest are
    kept as have a mean below the threshold, and at least one (AReaL's code of M2PO). The loss is
    divided by the tokens that are left.

    Args:
        mask: [N, T] bool.
        old_logprobs: [N, T] f32.
        behavior_logprobs: [N, T] f32; what is not finite counts as a ratio of 1.
        second_moment_below: the threshold, nats squared.

    Returns:
        [N, T] bool.

    Raises:
        ValueError: if the threshold is not positive.
    """
    check_field("second_moment_below", second_moment_below, lambda x: x > 0, "> 0")
    squares = sampler_log_ratio(old_logprobs, behavior_logprobs, mask) ** 2
    squares = jnp.where(mask, squares, jnp.inf).reshape(-1)
    ascending = jnp.sort(squares)
    counts = jnp.arange(1, ascending.size + 1)
    present = counts <= mask.sum()
    means = jnp.cumsum(jnp.where(present, ascending, 0.0)) / counts
    # The means rise with the count, so the last one below the threshold is the largest set.
    kept = jnp.where(present & (means < second_moment_below), counts, 1).max()
    return mask & (_ranks(squares).reshape(mask.shape) < kept)


def d3s(
    mask: Array,
    advantages: Array,
    old_entropy: Array,
    progress: Array,
    *,
    d3s_rows_first: float = 0.25,
    d3s_rows_last: float = 0.75,
    d3s_tokens_first: float = 0.2,
    d3s_tokens_last: float = 1.0,
) -> Array:
    """Dynamic dual-level down-sampling (D3S, arXiv:2509.22115).

    First it selects the rows of the batch whose advantages have the largest population variance.
    Then it selects, from all their tokens, the share with the largest |A| * entropy. Both shares
    change linearly over the stage, x = (1 - progress) * first + progress * last. The best n rows
    are the a largest and the n - a smallest advantages for some a, so that one sort and prefix sums
    find them. Advantages are not normalised again: that would undo the selection.

    Args:
        mask: [N, T] bool.
        advantages: [N, T] f32; a row's is the mean over its tokens.
        old_entropy: [N, T] f32, nats.
        progress: [] f32 in [0, 1], share of the stage that is done.
        d3s_rows_first: share of the rows at the start; rounded, at least one row.
        d3s_rows_last: the same at the end.
        d3s_tokens_first: share of their tokens at the start; rounded up.
        d3s_tokens_last: the same at the end.

    Returns:
        [N, T] bool; all False where every advantage is 0: there is nothing to select. Equal
        advantages are taken in the order of rows, equal keys in the order of tokens.

    Raises:
        ValueError: if a share is not in (0, 1].
    """
    for name, share in {
        "d3s_rows_first": d3s_rows_first,
        "d3s_rows_last": d3s_rows_last,
        "d3s_tokens_first": d3s_tokens_first,
        "d3s_tokens_last": d3s_tokens_last,
    }.items():
        check_field(name, share, *SHARE)
    chex.assert_equal_shape([mask, advantages, old_entropy])
    advantages = jnp.where(mask, jax.lax.stop_gradient(advantages), 0.0)
    length = mask.sum(axis=-1)
    rows = advantages.sum(axis=-1) / jnp.maximum(length, 1)
    share = (1.0 - progress) * d3s_rows_first + progress * d3s_rows_last
    count = jnp.maximum(jnp.round(share * (length > 0).sum()), 1).astype(int)
    chosen = mask & most_varied_rows(rows, length > 0, count)[:, None]
    entropy = jnp.where(mask, jax.lax.stop_gradient(old_entropy), 0.0)
    keys = jnp.where(chosen, jnp.abs(advantages) * entropy, -jnp.inf)
    share = (1.0 - progress) * d3s_tokens_first + progress * d3s_tokens_last
    wanted = share * chosen.sum()
    count = jnp.maximum(jnp.ceil(wanted - jnp.minimum(ROUNDING * wanted, 0.01)), 1)
    first = _ranks(-keys.reshape(-1)).reshape(mask.shape) < count
    return chosen & first & (advantages != 0).any()


def most_varied_rows(values: Array, present: Array, count: Array) -> Array:
    """The `count` rows with the largest population variance of their values.

    Args:
        values: [N] f32.
        present: [N] bool, rows that may be chosen.
        count: [] i32, how many; all of them where there are fewer.

    Returns:
        [N] bool. Rows of equal values are ordered as they come.
    """
    n, total = values.size, present.sum()
    count = jnp.minimum(count, total)
    mean = jnp.where(present, values, 0.0).sum() / jnp.maximum(total, 1)
    centred = jnp.where(present, values - mean, 0.0)  # the variance is a difference of sums
    ranks = _ranks(jnp.where(present, centred, jnp.inf))  # absent rows come last, as zeros
    ordered = jnp.zeros_like(centred).at[ranks].set(centred)
    split = jnp.arange(n + 1)  # how many of the largest; the others are the smallest
    few, many = jnp.clip(count - split, 0, n), jnp.clip(total - split, 0, n)

    def chosen_sum(numbers: Array) -> Array:
        upto = jnp.concatenate([jnp.zeros(1), jnp.cumsum(numbers)])
        return upto[few] + upto[n] - upto[many]

    divisor = jnp.maximum(count, 1)
    variance = chosen_sum(ordered**2) / divisor - (chosen_sum(ordered) / divisor) ** 2
    largest = jnp.argmax(jnp.where(split <= count, variance, -jnp.inf))
    return present & ((ranks < count - largest) | (ranks >= total - largest))


def _ranks(values: Array) -> Array:
    """[n] -> [n] i32, place of each value in ascending order; equal values keep their order."""
    order = jnp.argsort(values, stable=True)
    return jnp.zeros(values.size, int).at[order].set(jnp.arange(values.size))


SELECTIONS = {
    "none": everything,
    "finished": finished_only,
    "with_advantage": with_advantage,
    "uncertain": uncertain,
    "top_entropy": top_entropy,
    "second_moment": second_moment,
    "d3s": d3s,
}

# Selections whose loss is divided by the mask before them.
FULL_DENOMINATOR = frozenset({"top_entropy"})

# Selections that leave parts of rows in the mask, by what the policy thinks of the tokens.
OF_TOKENS = frozenset({"uncertain", "second_moment", "d3s"})


def any_group(group_ids: Array, mask: Array) -> Array:
    """Every group: all rows that are not empty. [N] i32, [N, T] bool -> [N] bool."""
    chex.assert_shape(group_ids, (mask.shape[0],))
    return mask.any(axis=-1)


def _accuracy(correct: Array, group_ids: Array, mask: Array) -> tuple[Array, Array]:
    """Share of right rows in each row's group [N], and which rows are there [N]."""
    chex.assert_equal_shape([correct, group_ids])
    present = mask.any(axis=-1)
    return group_statistics(correct.astype(float), present, group_ids).mean, present


def with_signal(scores: Array, group_ids: Array, mask: Array) -> Array:
    """Groups whose scores are not all equal: what a group baseline learns from.

    Args:
        scores: [N] f32.
        group_ids: [N] i32.
        mask: [N, T] bool.

    Returns:
        [N] bool; a group of one is dropped.
    """
    present = mask.any(axis=-1)
    scores = jax.lax.stop_gradient(scores)
    return present & ~group_statistics(scores, present, group_ids).homogeneous


def mixed(correct: Array, group_ids: Array, mask: Array) -> Array:
    """Groups with right and wrong samples (dynamic sampling of DAPO, arXiv:2503.14476, eq. 11).

    Args:
        correct: [N] bool.
        group_ids: [N] i32.
        mask: [N, T] bool.

    Returns:
        [N] bool.
    """
    accuracy, present = _accuracy(correct, group_ids, mask)
    return present & (accuracy > 0) & (accuracy < 1)


def not_all_correct(correct: Array, group_ids: Array, mask: Array) -> Array:
    """Drops the groups with right samples only (NGRPO, arXiv:2509.18851). Shapes as `mixed`."""
    accuracy, present = _accuracy(correct, group_ids, mask)
    return present & (accuracy < 1)


def not_all_wrong(correct: Array, group_ids: Array, mask: Array) -> Array:
    """Drops the groups with wrong samples only. Shapes as `mixed`."""
    accuracy, present = _accuracy(correct, group_ids, mask)
    return present & (accuracy > 0)


def accuracy_range(
    correct: Array,
    group_ids: Array,
    mask: Array,
    *,
    accuracy_low: float = 0.2,
    accuracy_high: float = 0.8,
) -> Array:
    """Groups of medium difficulty: accuracy within [low, high] (PRIME, arXiv:2502.01456).

    Args:
        correct: [N] bool.
        group_ids: [N] i32.
        mask: [N, T] bool.
        accuracy_low: lowest share of right samples that is kept.
        accuracy_high: highest share of right samples that is kept.

    Returns:
        [N] bool.

    Raises:
        ValueError: if a bound is not in [0, 1], or they cross.
    """
    known = 1.0 if isinstance(accuracy_high, jax.core.Tracer) else accuracy_high
    check_field("accuracy_high", accuracy_high, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("accuracy_low", accuracy_low, lambda x: 0 <= x <= known, "in [0, accuracy_high]")
    accuracy, present = _accuracy(correct, group_ids, mask)
    # A share such as 1/5 is a rounded quotient; it belongs to a range that starts at 0.2.
    above, below = accuracy >= accuracy_low - ROUNDING, accuracy <= accuracy_high + ROUNDING
    return present & above & below


def accuracy_inside(
    correct: Array,
    group_ids: Array,
    mask: Array,
    *,
    accuracy_low: float = 0.2,
    accuracy_high: float = 0.8,
) -> Array:
    """Groups with low < accuracy < high: a balanced filter (arXiv:2504.03380, section 3).

    (0, 1) is dynamic sampling. Only the open interval is balanced as the paper has it: `low` and
    `high` themselves are out.

    Args:
        correct: [N] bool.
        group_ids: [N] i32.
        mask: [N, T] bool.
        accuracy_low: share of right samples that a group has to exceed.
        accuracy_high: share that it has to stay below.

    Returns:
        [N] bool.

    Raises:
        ValueError: if the bounds cross.
    """
    high = jnp.inf if isinstance(accuracy_high, jax.core.Tracer) else accuracy_high
    check_field("accuracy_low", accuracy_low, lambda x: x < high, "< accuracy_high")
    accuracy, present = _accuracy(correct, group_ids, mask)
    above, below = accuracy > accuracy_low + ROUNDING, accuracy < accuracy_high - ROUNDING
    return present & above & below


GROUP_FILTERS = {
    "none": any_group,
    "with_signal": with_signal,
    "mixed": mixed,
    "not_all_correct": not_all_correct,
    "not_all_wrong": not_all_wrong,
    "accuracy_range": accuracy_range,
    "accuracy_inside": accuracy_inside,
}
