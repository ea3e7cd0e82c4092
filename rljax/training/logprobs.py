"""Log-probabilities of chosen tokens, as the trainer sees them."""

from collections.abc import Callable

import jax
from jax import Array

from rljax.models.network import Network, Params
from rljax.sampling.distribution import TokenFilter, entropy, log_distribution, take
from rljax.training.train_step import Batch, split_micro_batches


def completion_statistics(
    network: Network, params: Params, rows: Batch, token_filter: TokenFilter
) -> tuple[Array, Array, Array]:
    """Teacher-forced statistics of the last T tokens of each row.

    Token t of a completion is predicted from the hidden state one slot before it, so only slots
    P-1 .. S-2 are projected to the vocabulary; T is read off the mask.

    Args:
        network: the model's structure.
        params: its parameters, differentiated.
        rows: tokens, positions, segment_ids [N, S] i32 and mask [N, T] bool (training/rows.py).
        token_filter: of the sampler; temperature and truncation are part of the policy.

    Returns:
        log-probability of each token, entropy of the distribution it was drawn from, and whether
        it is the most probable one: all [N, T]; f32, f32, bool.
    """
    length = rows["mask"].shape[1]
    model = network.bind(params)
    hidden = model(rows["tokens"], rows["positions"], rows["segment_ids"])
    logits = model.logits(hidden[:, -length - 1 : -1])
    targets = rows["tokens"][:, -length:]
    log_probabilities = log_distribution(logits, token_filter, taken=targets)
    greedy = log_probabilities.argmax(axis=-1) == targets
    return take(log_probabilities, targets), entropy(log_probabilities), greedy


def make_score(
    network: Network, token_filter: TokenFilter, *, micro_batches: int
) -> Callable[[Params, Batch], Array]:
    """Builds score(params, rows) -> log-probabilities [N, T], without gradient.

    Rows are scored in `micro_batches` parts, one after the other, to bound the memory.
    """

    def part(params: Params, rows: Batch) -> Array:
        return completion_statistics(network, params, rows, token_filter)[0]

    def score(params: Params, rows: Batch) -> Array:
        if micro_batches == 1:
            return part(params, rows)
        parts = jax.lax.map(
            lambda rows: part(params, rows), split_micro_batches(rows, micro_batches)
        )
        return parts.swapaxes(0, 1).reshape(-1, parts.shape[-1])

    return score


def model_rows(rows: Batch) -> Batch:
    """What `score` reads of a batch."""
    return {name: rows[name] for name in ("tokens", "positions", "segment_ids", "mask")}
