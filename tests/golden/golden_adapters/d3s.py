"""Slug d3s: rows and tokens that D3S selects."""

import functools

import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats
from rljax.objectives.selections import SELECTIONS


def d3s(case: dict) -> dict:
    args, mask, row = case["args"], bools(case, "mask"), floats(case, "advantages")
    advantages = jnp.where(mask, row[:, None], 0.0)

    def kept(token_share):
        rows = args["n_select"] / len(mask)
        select = functools.partial(
            SELECTIONS["d3s"],
            d3s_rows_first=rows,
            d3s_rows_last=rows,
            d3s_tokens_first=token_share,
            d3s_tokens_last=token_share,
        )
        return select(mask, advantages, floats(case, "entropy"), jnp.asarray(0.5))

    # With every token of the selected rows these are the rows with any.
    selected = np.flatnonzero(kept(1.0).any(axis=-1))
    return {
        "selected_rows": selected,
        "variance": jnp.var(row[selected]),
        "token_mask_of_selected": kept(args["K"])[selected],
    }
