"""What a model that is loaded by itself says of prompts with completions, so many rows at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rljax.data.batches import equal_batches
from rljax.data.encode import pad_completions, pad_prompts
from rljax.models.frozen_base import parameter_shardings
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows, rows_divisor
from rljax.sampling.engine import bucket
from rljax.training.run.loaded import Model
from rljax.training.update.rows import Rows, completion_rows, take_rows

# Rows of one pass of a model.
ROWS_PER_PASS = 32


def in_passes(
    model: Model,
    mesh: Mesh,
    score: Callable[[Mapping[str, Any], Rows], jax.Array],
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    remedy: str = "leave such a line out (FIRST, SECOND)",
) -> np.ndarray:
    """[N, ...], what a model says of N prompts with their completions.

    Args:
        model: with its text format.
        mesh: of its parameters.
        score: (params, rows) -> an array with one entry for each row.
        prompts: N lists of ids.
        completions: N lists of ids; one may be empty.
        remedy: what to do where a row is longer than the model can read.
    """
    pad_id = model.text_format.tokenizer.pad_id
    # In buckets, so that texts that grow compile few programs.
    room = bucket(max(map(len, completions)))
    tokens, mask = pad_completions(completions, pad_id, max_new_tokens=room)
    padded = pad_prompts(prompts, pad_id, max_prompt_tokens=bucket(max(map(len, prompts))))
    model.network.config.check_positions(
        max(len(prompt) + len(own) for prompt, own in zip(prompts, completions, strict=True)),
        "What the model reads of a line",
        remedy,
    )
    rows = completion_rows(*padded, tokens, mask)
    size = rows_divisor(mesh) * max(1, ROWS_PER_PASS // rows_divisor(mesh))
    sharding = batch_sharding(mesh)
    jitted = jax.jit(
        score,
        in_shardings=(parameter_shardings(model.network, mesh), sharding),
        out_shardings=sharding,
    )
    with jax.set_mesh(mesh):
        passes = [
            jitted(model.params, put_rows(take_rows(rows, np.array(index)), mesh))
            for index in equal_batches(len(prompts), size)
        ]
    return np.concatenate(to_host(passes))[: len(prompts)]
