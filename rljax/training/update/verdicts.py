"""What a language model says of a text by its next token: one of two verdicts."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from rljax.data.tokenizers import Tokenizer
from rljax.models.moe import Routing
from rljax.models.network import Network, Params
from rljax.training.update.sequence_scores import completion_states, last_states
from rljax.training.update.train_step import Batch

# Tokens that a verdict can be: the good one first.
VERDICT_COUNT = 2


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
    return verdicts_at_end(network, params, states, rows["mask"], verdicts), routing


def verdicts_at_end(
    network: Network, params: Params, states: Array, mask: Array, verdicts: tuple[int, int]
) -> Array:
    """The same of the states of `completion_states`, [N, 2] or [B, G, 2] f32."""
    logits = network.bind(params).logits(last_states(states, mask))
    return jax.nn.log_softmax(logits)[..., jnp.array(verdicts)]


def verdict_ids(tokenizer: Tokenizer, verdicts: Sequence[str], field: str) -> tuple[int, int]:
    """The ids of two verdicts.

    Args:
        tokenizer: of the model.
        verdicts: texts.
        field: the config field or flag that says them, for errors.

    Raises:
        ValueError: unless they are two texts, each a token of its own.
    """
    ids = [tokenizer.encode_inside(text) for text in verdicts]
    if len(ids) != VERDICT_COUNT or any(len(each) != 1 for each in ids) or ids[0] == ids[1]:
        raise ValueError(
            f"The verdicts {tuple(verdicts)} have the ids {ids}; they must be two different tokens "
            f"({field})."
        )
    return ids[0][0], ids[1][0]


def make_verdict_scores(
    network: Network, verdicts: tuple[int, int]
) -> Callable[[Params, Batch], Array]:
    """Builds scores(params, rows) -> log p(good) - log p(bad), without a gradient."""
    says = make_verdicts(network, verdicts)

    def scores(params: Params, rows: Batch) -> Array:
        said = says(params, rows)
        return said[..., 0] - said[..., 1]

    return scores


def make_verdicts(network: Network, verdicts: tuple[int, int]) -> Callable[[Params, Batch], Array]:
    """Builds says(params, rows) -> the log-probabilities of `verdict_logprobs`, no gradient."""

    def says(params: Params, rows: Batch) -> Array:
        return jax.lax.stop_gradient(verdict_logprobs(network, params, rows, verdicts)[0])

    return says
