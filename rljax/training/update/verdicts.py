"""What a language model says of a text by its next token: one of two verdicts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.moe import Routing
from rljax.models.network import Network, Params
from rljax.training.update.sequence_scores import completion_states, last_states
from rljax.training.update.train_step import Batch

# Tokens that a verdict can be: the good one first.
VERDICTS = 2


def verdict_logprobs(
    network: Network, params: Params, rows: Batch, verdicts: tuple[int, int]
) -> tuple[Array, Routing | None]:
    """Log-probabilities of both verdicts as the token after the last one of each completion.

    Args:
        network: with a language model's head.
        params: all of its parameters, differentiated.
        rows: tokens, positions, segment_ids i32 and mask bool in either layout (update/rows.py);
            the True slots of a completion come first.
        verdicts: ids of the two tokens.

    Returns:
        f32 with the axes of the mask but the last, and [2], normalised over the whole vocabulary;
        and the routing of the whole rows, where there are experts.
    """
    states, routing = completion_states(network, params, rows)
    logits = network.bind(params).logits(last_states(states, rows["mask"]))
    return jax.nn.log_softmax(logits)[..., jnp.array(verdicts)], routing


def make_verdicts(network: Network, verdicts: tuple[int, int]) -> Callable[[Params, Batch], Array]:
    """Builds says(params, rows) -> the log-probabilities of `verdict_logprobs`, no gradient."""

    def says(params: Params, rows: Batch) -> Array:
        return jax.lax.stop_gradient(verdict_logprobs(network, params, rows, verdicts)[0])

    return says
