"""Successive elimination: how many samples a prompt gets, and which of them are learned from.

Prompts are sampled in rounds, and leave once their samples say enough. A small group is kept of
each (Reinforce-Ada, arXiv:2510.04996, algorithm 1).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field
from rljax.objectives.variance_allocation import by_variance

# When a prompt leaves: with one right sample, or with half a group of right and of wrong ones.
EXITS = ("positive", "balanced")


class Allocation(NamedTuple):
    """How the samples of a step are drawn.

    Attributes:
        exit: when a prompt leaves, one of `EXITS`.
        rounds: most rounds.
        samples: of each prompt that is still there, in a round.
    """

    exit: str
    rounds: int
    samples: int


def successive(
    *, allocation_exit: str = "balanced", allocation_rounds: int = 4, round_samples: int = 8
) -> Allocation:
    """Rounds of samples for the prompts that have not left yet.

    Args:
        allocation_exit: positive: one right sample; balanced: half a group of right and of wrong.
        allocation_rounds: most rounds of a step.
        round_samples: samples of each prompt in a round, at least samples_per_prompt.
    """
    check_field("allocation_exit", allocation_exit, EXITS.__contains__, f"one of {EXITS}")
    check_field("allocation_rounds", allocation_rounds, lambda x: x >= 1, ">= 1")
    check_field("round_samples", round_samples, lambda x: x >= 1, ">= 1")
    return Allocation(allocation_exit, allocation_rounds, round_samples)


class Screening(NamedTuple):
    """How the samples of a step are drawn: some of each prompt, the others of those that pass."""

    samples: int


def screening(*, screen_samples: int = 4) -> Screening:
    """A few samples of each prompt; the group filter judges them, and prompts that pass get more.

    As in SPEED (arXiv:2506.09016), whose authors have withdrawn it: its speed-ups are no evidence.
    There the further samples come one step later, here in the same one. The first samples of a
    group that passed are mixed by construction, so the group's mean is not unbiased.

    Args:
        screen_samples: of each prompt in a round, at most samples_per_prompt.
    """
    check_field("screen_samples", screen_samples, lambda x: x >= 2, ">= 2")
    return Screening(screen_samples)


def leaves(right: Array, wrong: Array, group: int, exit: str) -> Array:
    """Which prompts leave after a round, [B] bool.

    Args:
        right: [B] i32, right samples of all rounds so far.
        wrong: [B] i32.
        group: n, samples of a prompt that are learned from.
        exit: one of `EXITS`.
    """
    if exit == "positive":
        return right >= 1
    return (right >= group / 2) & (wrong >= group / 2)


def kept_right(right: Array, wrong: Array, group: int) -> Array:
    """How many right samples of a prompt's pool are kept; the others of its group are wrong ones.

    Half of each kind, and of the kind that is too rare all there are.

    Args:
        right: [B] i32, of the whole pool.
        wrong: [B] i32.
        group: n.

    Returns:
        [B] i32.
    """
    half = jnp.minimum(group // 2, right)
    rest = jnp.minimum(group - half, wrong)
    return jnp.minimum(group - rest, right)


def kept_places(correct: Array, drawn: Array, kept: Array, group: int) -> Array:
    """The first right and the first wrong samples in the order of drawing, right ones first.

    Args:
        correct: [B, D] bool, of all draws.
        drawn: [B, D] bool, False where there is no sample.
        kept: [B] i32, right ones to keep.
        group: n.

    Returns:
        [B, n] i32, places among the D.
    """
    places = jnp.arange(correct.shape[1])
    right, wrong = correct & drawn, ~correct & drawn
    of_right = jnp.cumsum(right, axis=1) <= kept[:, None]
    of_wrong = jnp.cumsum(wrong, axis=1) <= (group - kept)[:, None]
    chosen_right, chosen_wrong = right & of_right, wrong & of_wrong
    rank = jnp.where(chosen_right, 0, jnp.where(chosen_wrong, 1, 2)) * correct.shape[1] + places
    return jnp.argsort(rank, axis=1)[:, :group].astype(jnp.int32)


ALLOCATIONS = {"successive": successive, "screening": screening, "by_variance": by_variance}
