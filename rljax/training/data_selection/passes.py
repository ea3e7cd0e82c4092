"""Losses and gradients of single examples, each the mean over its own learned tokens."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.data.batches import equal_batches
from rljax.data.packing import Example
from rljax.models.lora import combine
from rljax.models.network import Network, Params
from rljax.parallel.host import to_host
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import bucket
from rljax.training.collect.demonstrations import packed_batch
from rljax.training.update.likelihood import autoregressive
from rljax.training.update.rows import Rows

# A function of (trained parameters, frozen ones, rows), and what it gives of each row.
OfRows = Callable[[Params, Params, Rows], Array]


def losses_of_rows(network: Network) -> OfRows:
    """Builds (trained, frozen, rows) -> [N] f32, mean -log p over the learned tokens of a row."""

    def losses(trained: Params, frozen: Params, rows: Rows) -> Array:
        params = combine(trained, frozen)
        found = autoregressive(network, params, rows, TokenFilter()).logprobs
        mask = rows["mask"]
        totals = jnp.where(mask, -found, 0.0).sum(axis=-1)
        return totals / jnp.maximum(mask.sum(axis=-1), 1)

    return losses


def gradients_of_rows(network: Network) -> OfRows:
    """Builds (trained, frozen, rows) -> [N, D] f32, of a row's loss by all trained parameters."""
    losses = losses_of_rows(network)

    def gradients(trained: Params, frozen: Params, rows: Rows) -> Array:
        def one(row: Rows) -> Array:
            alone = jax.tree.map(lambda x: x[None], row)
            gradient = jax.grad(lambda params: losses(params, frozen, alone)[0])(trained)
            return flat(gradient)

        # One after the other: the memory of a single backward pass.
        return jax.lax.map(one, rows)

    return gradients


def flat(tree: Params) -> Array:
    """[D] f32, all leaves one behind the other."""
    return jnp.concatenate([leaf.reshape(-1).astype(jnp.float32) for leaf in jax.tree.leaves(tree)])


def in_batches(
    program: Callable[[Rows], Array], examples: Sequence[Example], size: int, pad_id: int
) -> np.ndarray:
    """What a program says of the rows of examples, one example in each, `size` rows at a time.

    The shortest come first, in rows of few lengths.

    Args:
        program: jitted, rows -> [size, ...].
        examples: N of them.
        size: rows of a call.
        pad_id: fills rows.

    Returns:
        [N, ...], in the order of the examples.
    """
    order = np.argsort([len(example.tokens) for example in examples], kind="stable")
    found = []
    for places in equal_batches(len(examples), size):
        plan = [[int(order[place])] for place in places]
        room = bucket(max(len(examples[index].tokens) for (index,) in plan))
        rows = packed_batch(examples, plan, row_tokens=room, pad_id=pad_id)
        found.append(to_host(program(rows)))
    values = np.concatenate(found)[: len(examples)]
    return values[np.argsort(order)]
