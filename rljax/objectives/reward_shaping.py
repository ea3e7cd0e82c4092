"""What is done to scores before they are compared.

Every part maps named arrays (`objectives/arrays.py`) to new scores [N] f32, which are constant. The
group's statistics see the new scores; a filter on the task's own measure reads `correct`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_max, group_statistics
from rljax.objectives.credit.outcomes import bounded_scores
from rljax.objectives.hypervolume import hypervolume_scaled
from rljax.objectives.objective_weights import objective_weighted
from rljax.objectives.parts import check_field


def none(scores: Array) -> Array:
    """The scores as the verifier gave them. [N] f32."""
    return jax.lax.stop_gradient(scores)


def soft_overlong(
    scores: Array,
    mask: Array,
    *,
    overlong_length: int | None = None,
    overlong_buffer: int | None = None,
    overlong_penalty: float = 0.5,
) -> Array:
    """Adds a penalty that grows over the last slots of the limit (DAPO, arXiv:2503.14476, eq. 13).

        0                                              L <= limit - buffer
        penalty * ((limit - buffer) - L) / buffer      in between
        -penalty                                       L > limit

    The paper's penalty is 1, of rewards that are -1 or 1: half of what lies between wrong and
    right. Here right is 1 and wrong is 0, hence 0.5. Set 1 where wrong is -1.

    Args:
        scores: [N] f32.
        mask: [N, T] bool; its True slots are the length L.
        overlong_length: length in tokens at which the overlong penalty is whole; default: T, which
            is max_new_tokens.
        overlong_buffer: tokens before `overlong_length` over which the penalty grows; default: a
            fifth of it, as 4096 of 20480 in the paper.
        overlong_penalty: the whole penalty, in units of the score; half of right minus wrong.

    Returns:
        [N] f32.

    Raises:
        ValueError: unless 1 <= `overlong_buffer` <= `overlong_length`, and for a negative penalty.
    """
    length = mask.shape[-1] if overlong_length is None else overlong_length
    buffer = max(1, length // 5) if overlong_buffer is None else overlong_buffer
    check_field("overlong_length", length, lambda x: x >= 1, ">= 1")
    check_field("overlong_buffer", buffer, lambda x: x >= 1, ">= 1")
    if not isinstance(buffer, jax.core.Tracer):
        at_least = f">= overlong_buffer, {buffer}"
        check_field("overlong_length", length, lambda x: x >= buffer, at_least)
    check_field("overlong_penalty", overlong_penalty, lambda x: x >= 0, ">= 0")
    over = mask.sum(axis=-1) - (length - buffer)
    penalty = overlong_penalty * jnp.clip(over / buffer, 0.0, 1.0)
    return jax.lax.stop_gradient(scores) - penalty


def truncation(scores: Array, finished: Array) -> Array:
    """The score of a sample that ended by itself, 0 for one that was cut off (DLER, 2510.15110).

    The limit is the sampler's. A sample with its end token in the very last slot has ended by
    itself: `finished` says so, its length does not.

    Args:
        scores: [N] f32.
        finished: [N] bool.

    Returns:
        [N] f32.
    """
    chex.assert_equal_shape([scores, finished])
    return jnp.where(finished, jax.lax.stop_gradient(scores), 0.0)


def relative_length(
    scores: Array, mask: Array, group_ids: Array, correct: Array, *, length_weight: float = 1.0
) -> Array:
    """Adds what the shorter right samples of a prompt are preferred by (Kimi k1.5, 2501.12599).

        lambda = 1/2 - (L - min L) / (max L - min L), 0 where all lengths are equal
        scores + length_weight * (lambda if right, else min(0, lambda))

    The least and the largest length are those of all samples of the prompt, wrong ones included.
    arXiv:2507.08267 counts characters; here lengths are counted in tokens.

    Args:
        scores: [N] f32.
        mask: [N, T] bool; its True slots are the length L; a row without any is in no group.
        group_ids: [N] i32, equal for the samples of one prompt.
        correct: [N] bool.
        length_weight: factor of lambda, in units of the score.

    Returns:
        [N] f32.

    Raises:
        ValueError: for a negative weight.
    """
    check_field("length_weight", length_weight, lambda x: x >= 0, ">= 0")
    lengths = mask.sum(axis=-1).astype(jnp.float32)
    bonus = length_bonus(lengths, mask.any(axis=-1), group_ids, correct)
    return jax.lax.stop_gradient(scores) + length_weight * bonus


def length_bonus(lengths: Array, present: Array, group_ids: Array, correct: Array) -> Array:
    """The lambda of `relative_length`, of lengths in any unit.

    Args:
        lengths: [N] f32.
        present: [N] bool, which rows count.
        group_ids: [N] i32.
        correct: [N] bool.

    Returns:
        [N] f32 in [-1/2, 1/2]; 0 for rows that do not count.
    """
    chex.assert_equal_shape([lengths, present, group_ids, correct])
    segment = group_statistics(lengths, present, group_ids).segment
    longest = group_max(jnp.where(present, lengths, -jnp.inf), segment)
    shortest = -group_max(jnp.where(present, -lengths, -jnp.inf), segment)
    differ = present & (longest > shortest)
    spread = jnp.where(differ, longest - shortest, 1.0)
    # 1/2 - (L - shortest) / spread; whole numbers until the division, so that nothing cancels.
    halves = (longest - lengths) - (lengths - shortest)
    share = jnp.where(differ, halves / (2 * spread), 0.0)
    return jnp.where(correct, share, jnp.minimum(share, 0.0))


def difficulty_truncation(
    scores: Array,
    mask: Array,
    group_ids: Array,
    correct: Array,
    finished: Array,
    *,
    difficulty_thresholds: tuple = (0.5,),
    difficulty_lengths: tuple = (4000, 2000),
) -> Array:
    """`truncation` with a shorter limit for easier prompts (DA-DLER, arXiv:2510.15110).

    Samples are drawn with the longest limit. The share p of a prompt's samples that are right and
    finished under it chooses the prompt's limit: the first length if p is at most the first
    threshold, the second length above it, and so on. A sample within its prompt's limit keeps its
    score, others get 0.

    Args:
        scores: [N] f32.
        mask: [N, T] bool; its True slots are the length.
        group_ids: [N] i32, equal for the samples of one prompt.
        correct: [N] bool.
        finished: [N] bool.
        difficulty_thresholds: shares of right samples above which a prompt's limit is the next one,
            ascending, each in [0, 1).
        difficulty_lengths: limits in tokens, from hard to easy prompts, one more than thresholds.

    Returns:
        [N] f32.

    Raises:
        ValueError: unless thresholds ascend and lengths, one more of them, do not.
    """
    thresholds, lengths = tuple(difficulty_thresholds), tuple(difficulty_lengths)
    check_field(
        "difficulty_thresholds",
        thresholds,
        lambda x: list(x) == sorted(set(x)) and all(0 <= share < 1 for share in x),
        "ascending shares in [0, 1)",
    )
    check_field(
        "difficulty_lengths",
        lengths,
        lambda x: (
            len(x) == len(thresholds) + 1 and list(x) == sorted(x, reverse=True) and x[-1] >= 1
        ),
        "positive limits that do not ascend, one more than difficulty_thresholds",
    )
    chex.assert_equal_shape([scores, correct, finished])
    solved = (correct & finished).astype(jnp.float32)
    share = group_statistics(solved, mask.any(axis=-1), group_ids).mean
    # A share of 1/2 that was rounded up must not count as above 1/2.
    passed = (share[:, None] > jnp.asarray(thresholds, jnp.float32) + 1e-6).sum(axis=-1)
    limit = jnp.asarray(lengths)[passed]
    within = finished & (mask.sum(axis=-1) <= limit)
    return jnp.where(within, jax.lax.stop_gradient(scores), 0.0)


def negative_entropy(mask: Array, old_entropy: Array) -> Array:
    """-(mean token entropy of the old policy), in nats (TokenBuncher, arXiv:2508.20697).

    It makes the policy deterministic on the prompts that it is trained on. It is a reward: no
    gradient flows through the entropy, which is taken over the whole vocabulary at temperature 1.
    In the authors' code such steps take turns with supervised updates on noisy tokens.

    Args:
        mask: [N, T] bool.
        old_entropy: [N, T] f32; masked slots may hold anything, NaN included.

    Returns:
        [N] f32 in [-log V, 0]; 0 for a row without tokens.
    """
    chex.assert_equal_shape([mask, old_entropy])
    entropy = jnp.where(mask, jax.lax.stop_gradient(old_entropy), 0.0).sum(axis=-1)
    return -entropy / jnp.maximum(mask.sum(axis=-1), 1)


def thinking_budget(
    progress: Array, *, first_budget: int = 800, least_budget: int = 1, budget_decay: float = 0.2
) -> Array:
    """B = max(least, floor(first * decay ** progress)) tokens (RMT, arXiv:2509.24375).

    Args:
        progress: [] f32 in [0, 1], the share of all steps that is done.
        first_budget: at the beginning.
        least_budget: no budget is smaller.
        budget_decay: what is left of the first budget at the end, in (0, 1].

    Returns:
        [] f32, whole.
    """
    budget = jnp.floor(first_budget * jnp.power(budget_decay, progress))
    return jnp.maximum(budget, least_budget)


def token_budget(
    scores: Array,
    mask: Array,
    progress: Array,
    *,
    first_budget: int = 800,
    least_budget: int = 1,
    budget_decay: float = 0.2,
    budget_share: float = 0.1,
) -> Array:
    """Mixes in a reward for a length near a budget that shrinks (RMT, arXiv:2509.24375).

        (1 - share) score + share * triangle
        triangle = L / B for L <= B,  2 - L / B for B < L <= 2 B,  0 above

    The share was not seen in the paper.

    Args:
        scores: [N] f32.
        mask: [N, T] bool; its True slots are the length L.
        progress: [] f32, the share of all steps that is done.
        first_budget: B of the first step, in tokens.
        least_budget: B is never smaller.
        budget_decay: share of the first budget that is left at the end.
        budget_share: of the reward for the length.

    Returns:
        [N] f32.

    Raises:
        ValueError: for a budget below 1, or a share or decay outside its range.
    """
    check_field("first_budget", first_budget, lambda x: x >= 1, ">= 1")
    check_field("least_budget", least_budget, lambda x: x >= 1, ">= 1")
    check_field("budget_decay", budget_decay, lambda x: 0 < x <= 1, "in (0, 1]")
    check_field("budget_share", budget_share, lambda x: 0 <= x <= 1, "in [0, 1]")
    budget = thinking_budget(
        progress,
        first_budget=first_budget,
        least_budget=least_budget,
        budget_decay=budget_decay,
    )
    relative = mask.sum(axis=-1) / budget
    triangle = jnp.clip(jnp.minimum(relative, 2.0 - relative), 0.0, 1.0)
    return (1.0 - budget_share) * jax.lax.stop_gradient(scores) + budget_share * triangle


REWARD_SHAPINGS = {
    "none": none,
    "soft_overlong": soft_overlong,
    "truncation": truncation,
    "relative_length": relative_length,
    "difficulty_truncation": difficulty_truncation,
    "negative_entropy": negative_entropy,
    "bounded_scores": bounded_scores,
    "token_budget": token_budget,
    "hypervolume": hypervolume_scaled,
    "gradient_weighted": objective_weighted,
}
