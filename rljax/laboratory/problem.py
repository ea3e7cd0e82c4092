"""A latent-variable problem that is small enough to be enumerated.

A prompt has K chains of thought and, behind each, V ** A answers of A tokens. The policy is a table
of logits. What an autoregressive network would compute in one pass is a lookup here, and everything
else, the functions that training calls included, stays what it is.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

CHAINS, ANSWER_TOKENS, VOCABULARY = 4, 2, 3
TARGET = (1, 0)  # the reference answer


class Params(NamedTuple):
    """The table of a policy."""

    chain: Array  # [K], logits of the chains
    answer: Array  # [K, A, V], logits of each answer token behind each chain


def make_params(seed: int = 0) -> Params:
    """Logits on the host, in float64."""
    rng = np.random.default_rng(seed)
    return Params(
        rng.normal(0.0, 1.0, CHAINS),
        rng.normal(0.0, 1.5, (CHAINS, ANSWER_TOKENS, VOCABULARY)),
    )


# All completions: a chain and an answer. [Z, 1 + A] i32, Z = K * V ** A.
COMPLETIONS = np.array(
    list(itertools.product(range(CHAINS), *[range(VOCABULARY)] * ANSWER_TOKENS)), np.int32
)
RIGHT = (COMPLETIONS[:, 1:] == TARGET).all(axis=1)


def chain_logprobs(params: Params) -> Array:
    """[K], log pi(c | x)."""
    return jax.nn.log_softmax(params.chain)


def answer_logprobs(params: Params) -> Array:
    """[K], log pi(a* | x, c), summed over the answer's tokens."""
    every = jax.nn.log_softmax(params.answer, axis=-1)
    return every[:, np.arange(ANSWER_TOKENS), np.array(TARGET)].sum(axis=-1)


def completion_logprobs(params: Params) -> Array:
    """[Z, 1 + A], of each token of each completion."""
    chain, *answer = COMPLETIONS.T
    every = jax.nn.log_softmax(params.answer, axis=-1)
    tokens = [every[chain, place, token] for place, token in enumerate(answer)]
    return jnp.stack([chain_logprobs(params)[chain], *tokens], axis=-1)


def log_likelihood(params: Params) -> Array:
    """[], log pi(a* | x) = log sum_c pi(c | x) pi(a* | x, c)."""
    return jax.nn.logsumexp(chain_logprobs(params) + answer_logprobs(params))
