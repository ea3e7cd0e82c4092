"""What several adapters need."""

import jax.numpy as jnp
from jax import Array

from rljax.registry import resolve_objective


class NotBuilt(Exception):
    """The case belongs to a method that rljax does not have."""


def lookup(table: dict, key, what: str):
    """`table[key]`, or `NotBuilt` with a reason."""
    if key not in table:
        raise NotBuilt(f"{what} {key!r}")
    return table[key]


def floats(case: dict, name: str) -> Array:
    return jnp.asarray(case["inputs"][name], float)


def bools(case: dict, name: str) -> Array:
    return jnp.asarray(case["inputs"][name]) != 0


def part(method: str, choice: str, option: str, **fields):
    """The function that a training stage with these choices calls, its fields bound.

    Fields that are None count as not set, as in a config.
    """
    return resolve_objective(method, {choice: option, **fields}).part(choice)


def aggregation_weights(mask: Array, aggregation: str, length: int | None = None) -> Array:
    """Weights such that `loss = sum(weights * per_token_loss)`."""
    return part("dapo", "aggregation", aggregation, aggregation_length=length)(mask)


def weights_in_larger_batch(
    mask: Array, aggregation: str, *, rows: int | None = None, tokens: int | None = None
) -> Array:
    """Aggregation weights of `mask` as a part of a global batch of so many rows or tokens.

    The rest of the batch is made of filler rows: weights come from the global mask, whatever is
    in it, and are cut to the part afterwards.
    """
    n, t = mask.shape
    missing_rows = 0 if rows is None else rows - int(mask.any(axis=-1).sum())
    missing_tokens = 0 if tokens is None else tokens - int(mask.sum())
    if missing_rows < 0 or missing_tokens < 0:
        raise NotBuilt("a global batch that is smaller than its part")
    length = t if aggregation == "sequence_mean_token_scale" else None
    width = max(t, missing_tokens)
    filler = jnp.zeros((missing_rows + 1, width), bool)
    if missing_tokens:
        filler = filler.at[0, :missing_tokens].set(True)
    else:
        filler = filler.at[:missing_rows, 0].set(True)
    whole = jnp.concatenate([jnp.pad(mask, ((0, 0), (0, width - t))), filler])
    return aggregation_weights(whole, aggregation, length)[:n, :t]
