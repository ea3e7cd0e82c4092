"""Log-probabilities of the tokens of a prompt, which `echo` asks for."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.by_position import whole_rows
from rljax.models.decoding import Decoder
from rljax.models.network import Network, Params
from rljax.sampling.choose import log_softmax_at
from rljax.serving.program import MOST_TOPS

# Positions whose logits are held at a time.
SCORED = 16


class Scores(NamedTuple):
    """What is said of each token of R prompts given those before it, under the raw model.

    The first token has none before it: its numbers have no meaning.
    """

    logprobs: Array  # [R, P] f32
    top_logprobs: Array  # [R, P, k] f32, descending
    top_tokens: Array  # [R, P, k] i32


def make_score(network: Network) -> Callable[[Params, Array], Scores]:
    """score(params, tokens [R, P] i32 from the left) -> Scores; jitted."""
    tops = min(MOST_TOPS, network.config.vocab_size)

    def score(params: Params, tokens: Array) -> Scores:
        rows, slots = tokens.shape
        decoder = Decoder.of(network, params, slots)
        # Token i is foretold by the state after token i - 1.
        hidden = jnp.roll(whole_rows(decoder, tokens), 1, axis=1)
        size = SCORED if slots % SCORED == 0 else slots

        def some(start: Array) -> Scores:
            states, ids = (
                jax.lax.dynamic_slice_in_dim(x, start, size, axis=1) for x in (hidden, tokens)
            )
            logits = decoder.model.logits(states).reshape(rows * size, -1)
            values, alternatives = jax.lax.top_k(logits, tops)
            values -= jax.nn.logsumexp(logits, axis=-1, keepdims=True)
            found = Scores(log_softmax_at(logits, ids.reshape(-1)), values, alternatives)
            return jax.tree.map(lambda x: x.reshape(rows, size, *x.shape[1:]), found)

        parts = jax.lax.map(some, jnp.arange(0, slots, size))
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows, slots, *x.shape[3:]), parts)

    return jax.jit(score)
