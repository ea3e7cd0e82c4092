"""What a language model says of a text by its next token: one of two verdicts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rljax.data.tokenizers import Tokenizer
from rljax.models.moe import Routing
from rljax.models.network import Network, Params
from rljax.rewards.judges.questions import PAIR_ANSWERS
from rljax.training.update.sequence_scores import completion_states, last_states
from rljax.training.update.train_step import Batch

# Tokens that a verdict can be: the good one first.
VERDICT_COUNT = 2


def verdict_logprobs(
    network: Network, params: Params, rows: Batch, verdicts: Sequence[int]
) -> tuple[Array, Routing | None]:
    """Log-probabilities of the verdicts as the token after the last one of each completion.

    Args:
        network: with a language model's head.
        params: all of its parameters, differentiated.
        rows: tokens, positions, segment_ids i32 and mask bool in either layout (update/rows.py);
            the True slots of a completion come first.
        verdicts: ids of K tokens.

    Returns:
        f32 with the axes of the mask but the last, and [K], normalised over the whole vocabulary;
        and the routing of the whole rows, where there are experts.
    """
    states, routing = completion_states(network, params, rows)
    return verdicts_at_end(network, params, states, rows["mask"], verdicts), routing


def verdicts_at_end(
    network: Network, params: Params, states: Array, mask: Array, verdicts: Sequence[int]
) -> Array:
    """The same of the states of `completion_states`, [N, K] or [B, G, K] f32."""
    logits = network.bind(params).logits(last_states(states, mask))
    return jax.nn.log_softmax(logits)[..., jnp.array(tuple(verdicts))]


def verdict_ids(tokenizer: Tokenizer, verdicts: Sequence[str], field: str) -> tuple[int, int]:
    """The ids of two verdicts.

    Args:
        tokenizer: of the model.
        verdicts: texts.
        field: the config field or flag that says them, for errors.

    Raises:
        ValueError: unless they are two texts, each a token of its own.
    """
    first, second = token_ids(tokenizer, verdicts, "verdicts", field, count=VERDICT_COUNT)
    return first, second


def token_ids(
    tokenizer: Tokenizer, texts: Sequence[str], what: str, field: str, count: int | None = None
) -> tuple[int, ...]:
    """The ids of texts, each of which is a token of its own.

    Args:
        tokenizer: of the model.
        texts: different ones.
        what: they are, for errors.
        field: the config field or flag that says them, for errors.
        count: how many there must be; None: as many as there are.

    Raises:
        ValueError: for a text of several tokens, or two that are the same one.
    """
    ids = [tokenizer.encode_inside(text) for text in texts]
    wanted = len(ids) if count is None else count
    alone = all(len(each) == 1 for each in ids)
    if len(ids) != wanted or not alone or len({each[0] for each in ids}) != wanted:
        number = "two" if wanted == VERDICT_COUNT else str(wanted)
        raise ValueError(
            f"The {what} {tuple(texts)} have the ids {ids}; they must be {number} different tokens "
            f"({field})."
        )
    return tuple(each[0] for each in ids)


def judge_answers(fields: Mapping[str, Any]) -> list[str]:
    """The texts between which a judge decides, each one token.

    Args:
        fields: of the role.
    """
    if fields["judge"] == "pair":
        return list(PAIR_ANSWERS)
    return [str(score) for score in range(fields["lowest"], fields["highest"] + 1)]


def judge_ids(fields: Mapping[str, Any], tokenizer: Tokenizer, where: str) -> tuple[int, ...]:
    """The ids of `judge_answers`.

    Raises:
        ValueError: for an answer that is no single token.
    """
    return token_ids(tokenizer, judge_answers(fields), "answers of a judge", f"{where}.judge")


def make_verdict_scores(
    network: Network, verdicts: tuple[int, int]
) -> Callable[[Params, Batch], Array]:
    """Builds scores(params, rows) -> log p(good) - log p(bad), without a gradient."""
    says = make_verdicts(network, verdicts)

    def scores(params: Params, rows: Batch) -> Array:
        said = says(params, rows)
        return said[..., 0] - said[..., 1]

    return scores


def make_verdicts(network: Network, verdicts: Sequence[int]) -> Callable[[Params, Batch], Array]:
    """Builds says(params, rows) -> the log-probabilities of `verdict_logprobs`, no gradient."""

    def says(params: Params, rows: Batch) -> Array:
        return jax.lax.stop_gradient(verdict_logprobs(network, params, rows, verdicts)[0])

    return says
