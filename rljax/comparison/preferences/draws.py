"""What people say of completions: pairs with noisy labels, groups of pairs, labels of steps.

A row holds k pairs of one prompt, sampled from the start. Side 0 is the better one by the gold
reward. A label prefers it with the probability of Bradley and Terry, sigmoid(difference of gold
rewards), and is then swapped at the noise rate. Every method learns the same rows:

| method | what it reads of a row |
| --- | --- |
| of pairs | k pairs, each with its label |
| of two groups (mDPO) | the better and the worse sides as two groups, and the labels' majority |
| of labelled completions (KTO) | 2k completions: preferred or not by the label of their pair |
| of labelled steps (Step-KTO) | the same, and of each token the sign of its gold reward, swapped |

So methods of groups know of the k pairs which sides belong together, and methods of steps see one
label more for each token.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.comparison.preferences.task import PROMPTS, Problem, sample, token_values

ROWS, PAIRS = 320, 3  # of a training set; an odd number, which has a majority
TRIES = 8  # draws of a second completion until it is another one than the first


class Rows(NamedTuple):
    """Pairs of completions, side 0 being better; N rows of k pairs."""

    prompts: Array  # [N] i32
    tokens: Array  # [N, k, 2, T] i32
    gold: Array  # [N, k, 2] f32, the gold rewards
    swapped: Array  # [N, k] bool, the label prefers side 1
    right_steps: Array  # [N, k, 2, T] bool, the label of each token


def draw_rows(key: Array, problem: Problem, noise: float, rows: int, pairs: int) -> Rows:
    """Rows of a problem.

    Args:
        key: of the set; the completions do not depend on the noise.
        problem: whose start is sampled.
        noise: the rate at which labels are swapped.
        rows: N.
        pairs: k.
    """
    of_prompts, of_tokens, of_labels, of_noise, of_steps = jax.random.split(key, 5)
    prompts = jax.random.randint(of_prompts, (rows,), 0, PROMPTS)
    each = jnp.broadcast_to(prompts[:, None, None], (rows, pairs, 2))
    tokens = _different(sample(of_tokens, problem.start, _tried(prompts, pairs)))
    values = token_values(problem.gold, each, tokens)
    gold = values.sum(axis=-1)
    order = jnp.argsort(-gold, axis=-1)
    gold = jnp.take_along_axis(gold, order, axis=-1)
    tokens, values = (
        jnp.take_along_axis(array, order[..., None], axis=2) for array in (tokens, values)
    )
    agrees = jax.random.bernoulli(of_labels, jax.nn.sigmoid(gold[..., 0] - gold[..., 1]))
    swapped = ~agrees ^ jax.random.bernoulli(of_noise, noise, agrees.shape)
    wrong = jax.random.bernoulli(of_steps, noise, values.shape)
    return Rows(prompts, tokens, gold, swapped, (values > 0) ^ wrong)


def preferred_share(gold: Array, noise: float) -> Array:
    """How often a label prefers the better side: [..., k] f32; see `draw_rows`.

    Args:
        gold: [..., k, 2] f32, gold rewards.
        noise: the rate at which labels are swapped.
    """
    agrees = jax.nn.sigmoid(gold[..., 0] - gold[..., 1])
    return (1 - noise) * agrees + noise * (1 - agrees)


def labelled_sides(rows: Rows) -> Array:
    """Completions [N, k, 2, T] i32, the one that its label prefers first."""
    swap = rows.swapped[..., None, None]
    return jnp.where(swap, rows.tokens[:, :, ::-1], rows.tokens)


def majority_swapped(rows: Rows) -> Array:
    """Whether most labels of a row prefer side 1: [N] bool."""
    return rows.swapped.sum(axis=-1) * 2 > rows.swapped.shape[1]


def _tried(prompts: Array, pairs: int) -> Array:
    """The prompts of a first completion and of `TRIES` second ones: [N, k, 1 + TRIES]."""
    return jnp.broadcast_to(prompts[:, None, None], (len(prompts), pairs, 1 + TRIES))


def _different(tokens: Array) -> Array:
    """The first completion and the first of the others that differs: [N, k, 2, T].

    A pair of equal sides would say nothing. One is left where all tries are equal to the first.

    Args:
        tokens: [N, k, 1 + TRIES, T] i32.
    """
    first, others = tokens[:, :, :1], tokens[:, :, 1:]
    place = (others != first).any(axis=-1).argmax(axis=-1)
    second = jnp.take_along_axis(others, place[..., None, None], axis=2)
    return jnp.concatenate([first, second], axis=2)
