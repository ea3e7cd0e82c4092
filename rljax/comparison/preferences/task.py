"""A problem with a known reward: completions of a few symbols under tables of next tokens.

A policy is a table of logits [X, V + 1, V + 1]: prompt, token before, next token. Row V stands for
the start of a completion, column V for its end. The reward of a completion is the sum of a table of
the same shape over its tokens, so what a policy is worth, how far it is from its start and what the
best policy would earn are all sums that can be done exactly, from the last slot to the first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

PROMPTS, SYMBOLS, SLOTS = 8, 6, 6
END = SYMBOLS  # as a next token
START = SYMBOLS  # as the token before


class Problem(NamedTuple):
    """What is drawn for a seed."""

    start: Array  # [X, V + 1, V + 1] f32, logits of the policy that all methods start from
    gold: Array  # [X, V + 1, V + 1] f32, the reward of each token


def draw_problem(key: Array, repeat: float = 0.0) -> Problem:
    """A start and a gold reward that know nothing of each other: it ranks half of all pairs right.

    Args:
        key: of the seed.
        repeat: is added to the gold reward of a token that repeats the one before it.
    """
    shape = (PROMPTS, SYMBOLS + 1, SYMBOLS + 1)
    start, gold = (jax.random.normal(k, shape) for k in jax.random.split(key))
    # Completions have about four tokens.
    symbols = jnp.arange(SYMBOLS)
    return Problem(start.at[..., END].add(-0.5), gold.at[:, symbols, symbols].add(repeat))


def before(tokens: Array) -> Array:
    """The token before each slot: [..., T] i32, the first one behind START."""
    first = jnp.full_like(tokens[..., :1], START)
    return jnp.concatenate([first, tokens[..., :-1]], axis=-1)


def token_mask(tokens: Array) -> Array:
    """[..., T] bool: the slots up to the first END, that one among them."""
    ended = jnp.cumsum(tokens == END, axis=-1) - (tokens == END)
    return ended == 0


def token_values(table: Array, prompts: Array, tokens: Array) -> Array:
    """What a table says of each token: [..., T] f32; 0 behind the end.

    Args:
        table: [X, V + 1, V + 1] f32.
        prompts: [...] i32.
        tokens: [..., T] i32.
    """
    values = table[prompts[..., None], before(tokens), tokens]
    return jnp.where(token_mask(tokens), values, 0.0)


def token_logprobs(logits: Array, prompts: Array, tokens: Array) -> Array:
    """Log-probabilities of the tokens of completions: [..., T] f32; 0 behind the end.

    Args:
        logits: [X, V + 1, V + 1] f32, of a policy.
        prompts: [...] i32.
        tokens: [..., T] i32.
    """
    return token_values(jax.nn.log_softmax(logits), prompts, tokens)


def sample(key: Array, logits: Array, prompts: Array) -> Array:
    """A completion of each prompt: [..., T] i32; END from its end on.

    Args:
        key: of the draw.
        logits: [X, V + 1, V + 1] f32, of the policy.
        prompts: [...] i32.
    """
    # END comes before no other token, and its number is that of START: so it is carried apart.
    carry = (jnp.full(prompts.shape, START), jnp.zeros(prompts.shape, bool))

    def step(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
        last, ended = carry
        drawn = jax.random.categorical(key, logits[prompts, last])
        token = jnp.where(ended, END, drawn)
        return (token, ended | (token == END)), token

    _, tokens = jax.lax.scan(step, carry, jax.random.split(key, SLOTS))
    return jnp.moveaxis(tokens, 0, -1)


def expected(logits: Array, table: Array) -> Array:
    """The mean over completions of the sum of a table over their tokens: [X] f32, exact.

        v_t(before) = sum_y p(y | before) (table[before, y] + v_{t+1}(y)),   v = 0 behind the end

    Args:
        logits: [X, V + 1, V + 1] f32, of the policy.
        table: [X, V + 1, V + 1] f32: a reward; log(policy / start) for the KL.
    """
    chances = jax.nn.softmax(logits)
    return _summed(table, lambda values: (chances * values).sum(axis=-1))


def best(table: Array) -> Array:
    """The highest sum of a table that any completion has: [X] f32."""
    return _summed(table, lambda values: values.max(axis=-1))


def kl_to(logits: Array, start: Array) -> Array:
    """KL(policy || start) of whole completions: [X] f32, nats, exact."""
    return expected(logits, jax.nn.log_softmax(logits) - jax.nn.log_softmax(start))


def _summed(table: Array, over_next) -> Array:
    """From the last slot to the first: what is left from each token on, and [X] from the start."""
    left = jnp.zeros(table.shape[:2])
    for _ in range(SLOTS):
        # Behind END nothing is left; its row is that of START.
        behind = left.at[:, END].set(0.0)
        left = over_next(table + behind[:, None, :])
    return left[:, START]
