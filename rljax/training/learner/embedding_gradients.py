"""How steep the likelihood of a completion is in the embedding: a cheap measure of its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Network, Params
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.logprobs import (
    EMBEDDING_SHIFT,
    completion_statistics,
    in_parts,
    model_rows,
)
from rljax.training.update.train_step import Batch


def make_embedding_gradient_norms(
    network: Network, token_filter: TokenFilter, *, micro_batch: int, divisor: int = 1
) -> Callable[[Params, Batch], Array]:
    """Builds norms(params, separate rows) -> [N] f32, |d log pi(completion) / d embedding|.

    The log-probability is a sum over the completion's tokens, the norm that of the whole table:
    look-ups of the same token are one row of it. A table that is tied to the output counts as an
    embedding alone.

    Of the table itself nothing is differentiated. With g_s the gradient by what token s was
    embedded as, the squared norm is the sum of g_s . g_t over all s, t with the same token, so that
    a batch takes [N, S, S] and not a table for each row.

    Args:
        network: of the policy.
        token_filter: of the sampler.
        micro_batch: rows at a time, at most.
        divisor: of N and of the rows at a time (parallel/rules.py), at most `micro_batch`.
    """
    scale = network.config.embedding_scale

    def part(params: Params, rows: Batch) -> Array:
        tokens = rows["tokens"]

        def total(shift: Array) -> Array:
            shifted = {**rows, EMBEDDING_SHIFT: shift}
            found = completion_statistics(network, params, shifted, token_filter)
            return jnp.where(rows["mask"], found.logprobs, 0.0).sum()

        slopes = jax.grad(total)(jnp.zeros((*tokens.shape, network.config.width), jnp.float32))
        products = jnp.einsum("nsd,ntd->nst", slopes, slopes)
        same = tokens[:, :, None] == tokens[:, None, :]
        squares = jnp.where(same, products, 0.0).sum(axis=(1, 2))
        norms = scale * jnp.sqrt(jnp.maximum(squares, 0.0))
        return jnp.broadcast_to(norms[:, None], rows["mask"].shape)

    def norms(params: Params, rows: Batch) -> Array:
        units = len(rows["mask"]) // divisor
        parts = next(
            n for n in range(1, units + 1) if units % n == 0 and units // n * divisor <= micro_batch
        )
        return in_parts(part, parts, model_rows(rows), params)[:, 0]

    return norms
